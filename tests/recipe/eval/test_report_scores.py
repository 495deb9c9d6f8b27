"""`main_eval report` on sentiment and MME-Emotion: what was computed beside the answers."""

import json

import pytest
from report_cases import judge, map_sentiment, remap, table
from result_cases import BUILTIN, SENTIMENTS

from recipe.mer_r1.eval.answers import Answer
from recipe.mer_r1.eval.measure import measure
from recipe.mer_r1.eval.results import why_scored_apart
from recipe.mer_r1.eval.scoring import score
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.method.metrics import waf

LLM = {
    "name": "llm",
    "endpoint": "http://localhost/v1",
    "model": "m",
    "served_models": {"served-1": 6},
    "prompt": "paper",
    "prompt_sha256": "b" * 64,
    "temperature": 0.0,
    "seed": None,
}

ANSWER = Answer(
    index=0,
    name="one",
    data_source="x",
    prompt_sha256="0",
    labels=["happy"],
    response="sad",
    words=["sad"],
    tokens=1,
    finished=True,
)


def scored(folder, bootstrap=0):
    return measure(folder, BUILTIN, bootstrap=bootstrap, seed=0, wheels_named=False)


def by_model(folder, **changes):
    for path in folder.glob("*.sentiment.meta.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"mapper": LLM | changes}))
    return folder


def test_waf_is_that_of_the_true_scores_and_comes_with_its_mapper(answers):
    folder = map_sentiment(answers("a", "mosi"))
    result = scored(folder, bootstrap=20).mode("slow")
    scores = {"positive": 2.4, "negative": -0.2, "neutral": 0.0}  # WAF reads their signs alone
    gold = {f"clip_{index}": scores[label] for index, (label,) in enumerate(SENTIMENTS)}
    lines = map(json.loads, (folder / "slow.sentiment.jsonl").read_text().splitlines())
    expected = waf(gold, {line["name"]: line["sentiment"] for line in lines})["waf"]
    assert 0 < expected < 1
    assert result.metrics["waf"].value == pytest.approx(expected)
    assert result.metrics["waf"].low <= expected <= result.metrics["waf"].high
    assert (result.sentiment.name, result.sentiment.package) == ("lexicon", "vaderSentiment")
    assert result.notes == ()


def test_a_mapped_folder_is_in_the_tables_and_needs_no_files_once_scored(answers, report, tmp_path):
    folder = map_sentiment(answers("a", "sims"))
    done = report(f"x={folder}", "--paper")
    assert done.exit_code == 0, done.output
    assert float(table(tmp_path, 1)[0]["sims"]) == pytest.approx(80)
    assert "Sentiment: mapper lexicon vaderSentiment" in done.output
    assert "WAF from a lexicon is not comparable" in done.output
    for path in folder.glob("*.jsonl"):
        path.unlink()
    assert report(f"x={folder}", "--paper").output == done.output


def test_answers_without_a_reply_leave_no_waf(answers):
    folder = map_sentiment(answers("a", "mosi"))
    path = folder / "slow.sentiment.meta.json"
    meta = json.loads(path.read_text())
    meta["counts"]["n_failed"] = 1
    path.write_text(json.dumps(meta | {"failures": {"clip_5": "HTTP 400"}}))
    mapped = folder / "slow.sentiment.jsonl"
    mapped.write_text("".join(mapped.read_text().splitlines(keepends=True)[:-1]))
    result = scored(folder).mode("slow")
    assert result.metrics["waf"].value is None
    assert "1 of 6 answers were not mapped" in result.notes[0]


def cut(folder):
    path = folder / "slow.sentiment.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def mislabel(folder):
    path = folder / "slow.jsonl"
    path.write_text(path.read_text().replace('"labels": ["neutral"]', '"labels": ["calm"]'))
    map_sentiment(folder)


BROKEN = {
    "cut": (cut, r"slow\.sentiment\.jsonl: the number of sentiments \(5\) does not match"),
    "no meta": (
        lambda folder: (folder / "slow.sentiment.meta.json").unlink(),
        r"no such file, but slow\.sentiment\.jsonl needs it",
    ),
    "half a meta": (
        lambda folder: (folder / "slow.sentiment.meta.json").write_text('{"version": 1}'),
        r"meta\.json: answers: Field required",
    ),
    "no mapped": (lambda folder: (folder / "slow.sentiment.jsonl").unlink(), r"slow\.sentiment\.jsonl: no such file"),
    "labels": (mislabel, r"slow\.jsonl: clip 'clip_5': the labels \['calm'\] are not one of positive"),
}


@pytest.mark.parametrize(("harm", "message"), BROKEN.values(), ids=BROKEN)
def test_damaged_sentiments_are_refused_by_name(answers, harm, message):
    folder = map_sentiment(answers("a", "mosi"))
    harm(folder)
    with pytest.raises(InputError, match=message):
        scored(folder)


def test_sentiments_of_other_answers_are_refused(answers, tmp_path):
    folder = map_sentiment(answers("a", "mosi", clips=5))
    other = answers("b", "mosi")
    for path in folder.glob("slow.sentiment.*"):
        (other / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"slow\.sentiment\.jsonl: slow\.jsonl has changed since"):
        scored(other)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda folder: by_model(folder), "sentiment: mapper lexicon vaderSentiment 3"),
        (lambda folder: remap(folder, sha256="c" * 64), "(cccccccccccc)"),
        (lambda folder: remap(folder, version="9"), "vaderSentiment 9"),
    ],
)
@pytest.mark.parametrize("corpus", ["mosi", "sims"])
def test_other_mappers_are_refused_in_a_column_and_in_a_mean(answers, report, change, reason, corpus):
    one = map_sentiment(answers("a", "mosi"))
    other = change(map_sentiment(answers("b", corpus, model="other")))
    done = report(f"x={one}", f"y={other}")
    assert (done.exit_code, reason in done.stderr) == (2, True), done.output


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": "other"}, "mapper llm m and llm other"),
        ({"temperature": 0.7}, "temperature 0.0 and 0.7"),
        (
            {"prompt": "benchmark", "prompt_sha256": "d" * 64},
            "prompt paper (bbbbbbbbbbbb) and benchmark (dddddddddddd)",
        ),
        ({"served_models": {"served-2": 6}}, "served as served-1 and served-2"),
        ({"endpoint": "http://elsewhere/v1", "seed": 5, "served_models": {}}, None),
    ],
)
def test_what_makes_two_models_comparable(answers, change, reason):
    one, other = (
        scored(by_model(map_sentiment(answers(name, "mosi")), **given)).mode("slow")
        for name, given in (("a", {}), ("b", change))
    )
    assert why_scored_apart(one, other) == ([f"sentiment: {reason}"] if reason else [])


def test_modes_of_one_folder_have_one_mapper(answers):
    folder = map_sentiment(answers("a", "mosi"))
    path = folder / "fast.sentiment.meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"mapper": LLM}))
    with pytest.raises(InputError, match=r"slow and fast answers are not comparable .*sentiment: mapper lexicon"):
        scored(folder)


def test_table_2_has_both_scores_and_every_task(answers, report, tmp_path):
    folder = judge(answers("a", "mme_emotion"), "slow", statuses=("scored", "unparseable"))
    done = report(f"mer_r1={folder}", "--paper")
    assert done.exit_code == 0, done.output
    official, strict, fast, *_ = table(tmp_path, 2)
    assert [row["scores"] for row in (official, strict, fast)] == ["official", "strict", "–"]
    # Recognition is n/10 and reasoning 1 − n/20 for the task in place n = 0 … 7; n = 1 is unparseable.
    assert float(official["er_lab"]) == pytest.approx(50)
    assert (official["er_wild"], float(strict["er_wild"])) == ("", 0)
    assert float(official["mean_rec"]) == pytest.approx(100 * 2.7 / 7)
    assert float(strict["mean_rec"]) == pytest.approx(100 * 2.7 / 8)
    assert float(strict["mean_cot"]) == pytest.approx(100 * (2.7 + 7 - 1.35) / 16)
    assert "mer_r1 (slow): 1 of 8 verdicts cannot be parsed" in done.output
    assert f"mer_r1 (fast): not judged yet; run `main_eval judge --answers {folder / 'fast.jsonl'} …`" in done.output
    assert "| paper: MER-R1 | slow | – | 57.3 | 49.6 |" in done.output
    assert "- MER-R1 (mer_r1), slow: missing ER-Wild" in done.output
    assert "Judge: model judge-1" in done.output
    assert "MME-Emotion" not in done.output.split("Table 1")[1].split("###")[0]


def test_a_judged_folder_needs_no_files_once_scored(answers, report):
    folder = judge(answers("a", "mme_emotion", modes=["slow"]), "slow")
    first = report(f"x={folder}")
    (folder / "slow.jsonl").unlink()
    (folder / "slow.judge" / "results.json").unlink()
    assert report(f"x={folder}").output == first.output


@pytest.mark.parametrize(
    ("clips", "options", "note"),
    [
        (None, {"statuses": ("failed",)}, "no mean: 1 answers have no verdict"),
        (7, {}, "no mean: only 7 of 8 rows are judged"),
    ],
)
def test_no_mean_of_a_part(answers, report, tmp_path, clips, options, note):
    folder = judge(answers("a", "mme_emotion", modes=["slow"], clips=clips), "slow", **options)
    done = report(f"mer_r1={folder}", "--paper")
    official, strict, *_ = table(tmp_path, 2)
    assert (official["mean_cot"], strict["mean_cot"]) == ("", "")
    assert float(official["er_wild"]) == pytest.approx(52.5)
    assert note in done.output


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"judge_model": "judge-2"}, "judge: model judge-1 and judge-2"),
        ({"prompt_sha256": "e" * 64}, "judge: prompt aaaaaaaaaaaa and eeeeeeeeeeee"),
        ({"frames": {"fps": 2.0, "max": 10, "longest_side": 768}}, "judge: frames"),
        ({"served_models": {"served-2": 16}}, "judge: served as served-1 and served-2"),
    ],
)
@pytest.mark.parametrize("mode", ["slow", "fast"])
def test_other_judges_are_refused_whatever_the_mode(answers, report, change, reason, mode):
    one = judge(answers("a", "mme_emotion"), "slow")
    other = judge(answers("b", "mme_emotion", model="other"), mode, **change)
    done = report(f"x={one}", f"y={other}")
    assert done.exit_code == 2
    assert f"x on mme_emotion and y on mme_emotion, {'slow' if mode == 'slow' else 'slow and fast'}: {reason}" in (
        done.stderr
    )


def test_verdicts_of_other_answers_and_half_a_file_are_refused(answers, report):
    folder = judge(answers("a", "mme_emotion", clips=7), "slow")
    path = folder / "slow.jsonl"
    path.write_text(path.read_text() + json.dumps(json.loads(path.read_text().splitlines()[-1]) | {"index": 7}) + "\n")
    assert "slow.judge/results.json: slow.jsonl has changed since" in (done := report(folder)).stderr
    assert done.exit_code == 2
    (folder / "slow.judge" / "results.json").write_text('{"version": 1}')
    assert "slow.judge/results.json: answers: Field required" in report(folder).stderr


def test_the_folder_of_a_judge_is_refused_with_the_way_out(answers, report):
    folder = judge(answers("a", "mme_emotion"), "slow")
    done = report(folder / "slow.judge")
    assert (done.exit_code, "give the folder of the answers" in done.stderr) == (2, True)


def test_two_rows_about_one_clip_are_refused_elsewhere(tmp_path):
    twice = [ANSWER.model_copy(update={"index": index}) for index in range(2)]
    with pytest.raises(InputError, match="two rows of the shard have the same clip name"):
        score("ew", twice, tmp_path / "slow.jsonl", BUILTIN, bootstrap=0, seed=0)
