"""`main_eval compare`: paired differences, the verdict in words, JSON and picture, and what is refused."""

import json
import re

import pytest
from report_cases import judge, map_sentiment
from result_cases import FAST, LABELS, write_answers
from typer.testing import CliRunner

from recipe.mer_r1.eval.answers import read_answers
from recipe.mer_r1.eval.compare.command import app
from recipe.mer_r1.eval.compare.differences import Comparison, Corpus, Difference
from recipe.mer_r1.eval.compare.wording import verdict
from recipe.mer_r1.eval.measure import measure
from recipe.mer_r1.eval.official import official
from recipe.mer_r1.eval.score_table import table
from recipe.mer_r1.method.metrics import ew_scores


@pytest.fixture
def answers(tmp_path):
    def make(name, corpus="micro", *, model="mer_r1", **changes):
        return write_answers(tmp_path / name / corpus, corpus, model=tmp_path / model, **changes).parent

    return make


@pytest.fixture
def compare(tmp_path):
    """Run the command; its output, exit code and compare.json."""

    def run(*arguments):
        out = tmp_path / "out"
        done = CliRunner().invoke(app, [*map(str, arguments), "--out", str(out), "--bootstrap", "200"])
        return done, json.loads((out / "compare.json").read_text()) if done.exit_code == 0 else None

    return run


def as_metric(found):
    return [found[key] for key in ("difference", "low", "high")]


def test_two_forms_of_one_model_are_the_gaps_of_the_report(compare, answers, builtin, tmp_path):
    folder = answers("a")
    done, found = compare(f"{folder}:fast", f"{folder}:slow")
    assert done.exit_code == 0, done.output
    (one,) = found["comparisons"]
    assert (one["modes"], one["pooled"]) == (["fast", "slow"], None)
    gaps = measure(folder / "micro", builtin, bootstrap=200, seed=0, wheels_named=True).gaps
    scores = one["corpora"][0]["scores"]
    for key in "FPR":
        assert as_metric(scores[key]) == pytest.approx([gaps[key].value, gaps[key].low, gaps[key].high])
    names = map(str, range(len(LABELS)))
    gold, fast = dict(zip(names, LABELS, strict=True)), [text.split(", ") for text in FAST]
    expected = ew_scores(gold, dict(zip(gold, fast, strict=True)), builtin)
    assert scores["F"]["first"] == pytest.approx(expected["F"])
    assert scores["F"]["difference"] == pytest.approx(scores["F"]["first"] - scores["F"]["second"])
    assert re.match(r"fast (is ahead of|cannot be told from) slow in EW F: ", done.output)
    assert "answers of mer_r1 to 6 clips of MER-Micro." in done.output
    assert (tmp_path / "out" / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert "fast − slow" in (tmp_path / "out" / "compare.svg").read_text()


def test_models_are_compared_mode_by_mode_and_the_same_answers_differ_nowhere(compare, answers):
    one, other = answers("a"), answers("b", model="other")
    done, found = compare(f"new={one}", f"old={other}")
    assert [comparison["modes"] for comparison in found["comparisons"]] == [["slow", "slow"], ["fast", "fast"]]
    assert found["verdicts"][0] == (
        "new cannot be told from old in EW F: +0.00 points (95 % interval +0.00 to +0.00); slow answers to 6 clips of "
        "MER-Micro."
    )
    assert done.output.startswith(found["verdicts"][0])


def test_several_corpora_have_their_own_metric_and_a_mean(compare, answers, tmp_path):
    """Both sides in folders of three corpora: EW F, HIT and WAF; the pooled difference is the mean of the three."""
    for corpus in ("ov_merd_plus", "mer2023", "mosi"):
        answers("a", corpus)
        answers("b", corpus, model="other")
    for side in "ab":
        map_sentiment(tmp_path / side / "mosi")
    answers("b", "meld", model="other")
    done, found = compare(f"{tmp_path / 'a'}:fast", f"{tmp_path / 'b'}:slow")
    assert done.exit_code == 0, done.output
    (one,) = found["comparisons"]
    assert {corpus["corpus"]: corpus["metric"] for corpus in one["corpora"]} == {
        "ov_merd_plus": "F",
        "mer2023": "hit",
        "mosi": "waf",
    }
    own = [corpus["scores"][corpus["metric"]] for corpus in one["corpora"]]
    pooled = one["pooled"]["scores"]
    assert set(pooled) == {"official"}  # WAF has no EW F
    for key in ("first", "second", "difference"):
        assert pooled["official"][key] == pytest.approx(sum(score[key] for score in own) / 3)
    assert pooled["official"]["low"] < pooled["official"]["difference"] < pooled["official"]["high"]
    assert found["only_in_one"] == ["meld"]
    assert "mer_r1 (fast)" in found["verdicts"][0]
    assert "in the mean over corpora of their own metric" in found["verdicts"][0]


def test_clips_are_paired_by_name_and_not_by_row(compare, answers):
    """The same answers from a shard in the opposite order differ nowhere, so no draw has a difference."""
    one, other = answers("a"), answers("b", model="other")
    for mode in ("slow", "fast"):
        path = other / "micro" / f"{mode}.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(line | {"index": 5 - line["index"]}) + "\n" for line in lines))
    _, found = compare(one, other)
    for comparison in found["comparisons"]:
        assert as_metric(comparison["corpora"][0]["scores"]["F"]) == [0, 0, 0]


def test_answers_of_mme_emotion_are_compared_by_their_verdicts(compare, answers, tmp_path):
    one, other = answers("a", "mme_emotion"), answers("b", "mme_emotion", model="other")
    _, before = compare(one, other)
    assert before["verdicts"][0].startswith("mer_r1 and other cannot be compared")
    assert "not judged yet" in before["verdicts"][0]
    for side in (one, other):
        for mode in ("slow", "fast"):
            judge(side / "mme_emotion", mode)
    _, found = compare(one, other)
    assert found["comparisons"][0]["corpora"][0]["metric"] == "cot"
    assert as_metric(found["comparisons"][0]["corpora"][0]["scores"]["cot"]) == [0, 0, 0]


@pytest.mark.parametrize(
    ("mode", "changes", "reason"),
    [
        ("", {"clips": 5}, "n: 6 and 5"),
        ("", {"media": {"fps": 1.0}}, "media: fps 2.0 and 1.0"),
        (":fast_sampled", {}, "has no fast_sampled answers; `main_eval run --mode fast_sampled` makes them"),
        ("", {"corpus": "meld"}, "nothing to compare: micro (slow fast) in "),
    ],
)
def test_what_cannot_be_paired_is_refused_with_the_reason(compare, answers, mode, changes, reason):
    done, _ = compare(answers("a"), f"{answers('b', model='other', **changes)}{mode}")
    assert done.exit_code == 2
    assert reason in done.stderr


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.001, 0.03, "is ahead of"),
        (-0.03, -0.001, "is behind"),
        (0.0, 0.03, "cannot be told from"),
        (None, None, "cannot be told from"),
    ],
)
def test_a_verdict_needs_an_interval_without_0(low, high, said):
    one = Difference(first=0.5, second=0.48, difference=0.02, low=low, high=high)
    corpus = Corpus(corpus="micro", clips=6, metric="F", scores={"F": one})
    text = verdict(Comparison(modes=("slow_sampled",) * 2, corpora=[corpus]), "new", "old")
    assert text.startswith(f"new {said} old in EW F: +2.00 points")
    assert text.endswith("; sampled slow answers to 6 clips of MER-Micro.")


@pytest.mark.parametrize(("corpus", "samples"), [("micro", 1), ("micro", 3), ("mer2023", 1), ("mosi", 1)])
def test_run_prints_first_what_report_prints(answers, builtin, corpus, samples):
    """The same answers, the same numbers and intervals; clip F1 is another number and says so."""
    folder = answers("a", corpus, modes=("slow_sampled",), samples=samples) / corpus
    (mode, lines), *_ = read_answers(folder).modes.items()
    raw = [json.loads(line) for line in (folder / f"{mode}.jsonl").read_text().splitlines()]
    found = official(raw, corpus, builtin)
    result = measure(folder, builtin, bootstrap=1000, seed=0, wheels_named=True).mode(mode)
    if corpus == "mosi":
        assert found["ew_f"] is found["hit"] is None
        return
    for key, name in {"F": "ew_f", "R": "ew_r", "P": "ew_p"}.items():
        assert found[name] == result.metrics[key].value
        assert found[f"{name}_ci95"] == [result.metrics[key].low, result.metrics[key].high]
    assert (found["hit"] is None) == (corpus == "micro")
    means = dict.fromkeys(("f1", "format", "num_words", "categories", "answer_unknown", "thought_empty"), 0.5)
    header, line, *_ = table({mode: found | means | {"n": 6, "samples": samples}}).splitlines()
    first = result.metrics["hit" if corpus == "mer2023" else "F"].value
    assert header.split()[0] == ("HIT" if corpus == "mer2023" else "EW")
    assert line.split()[:2] == [mode, f"{100 * first:.2f}"]
    assert len(lines) == 6 * samples
