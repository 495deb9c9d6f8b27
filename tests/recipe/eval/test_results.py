"""Results of a folder: their numbers, and the reasons why two are not comparable."""

import json

import pytest
from result_cases import BUILTIN, FAST, LABELS, SLOW, write_answers

from recipe.mer_r1.eval.answers import folders_of_tasks
from recipe.mer_r1.eval.cases.inputs import same_corpus
from recipe.mer_r1.eval.fingerprints import weights_sha256
from recipe.mer_r1.eval.measure import measure
from recipe.mer_r1.eval.results import read_results, why_not_comparable, write_results
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.method.answer import split_list
from recipe.mer_r1.method.metrics import ew_gaps, ew_scores, hit_rate

GOLD = {f"clip_{index}": labels for index, labels in enumerate(LABELS)}
ANSWERS = {
    mode: {f"clip_{index}": split_list(words) for index, words in enumerate(given)}
    for mode, given in (("slow", SLOW), ("fast", FAST))
}


def scored(folder, **options):
    return measure(folder, BUILTIN, **({"bootstrap": 0, "seed": 0, "wheels_named": False} | options))


@pytest.fixture
def made(tmp_path):
    return scored(write_answers(tmp_path / "a", "mer2023", model=tmp_path / "model"), bootstrap=50)


@pytest.mark.parametrize("mode", ["slow", "fast"])
def test_numbers_are_the_metrics_own(made, mode):
    metrics = made.mode(mode).metrics
    whole = ew_scores(GOLD, ANSWERS[mode], BUILTIN)
    for key in ("F", "P", "R"):
        assert metrics[key].value == pytest.approx(whole[key])
        assert metrics[key].low <= metrics[key].value <= metrics[key].high
    assert metrics["hit"].value == pytest.approx(hit_rate(GOLD, ANSWERS[mode], BUILTIN)["hit"])


def test_gaps_are_fast_less_slow_and_resampled_together(made):
    slow, fast = made.mode("slow").metrics, made.mode("fast").metrics
    for key, gap in made.gaps.items():
        assert gap.value == pytest.approx(fast[key].value - slow[key].value)
    same = ew_gaps(GOLD, ANSWERS["slow"], ANSWERS["slow"], BUILTIN, bootstrap=20)
    assert same["ci95"] == {"F": [0, 0], "P": [0, 0], "R": [0, 0]}


def test_answers_without_a_word_are_counted(made):
    assert (made.mode("slow").n, made.mode("slow").n_empty, made.mode("fast").n_empty) == (6, 1, 0)


def test_average_number_of_categories(tmp_path):
    folder = write_answers(tmp_path / "a", "micro", model=tmp_path / "model", clips=1)
    found = scored(folder)
    assert found.mode("slow").metrics["categories"].value == pytest.approx(1.0)
    assert found.mode("fast").metrics["categories"].value == pytest.approx(2.0)


def test_sentiment_has_no_number_and_a_reason(tmp_path):
    found = scored(write_answers(tmp_path / "a", "mosi", model=tmp_path / "model")).mode("slow")
    assert found.metrics["waf"].value is None
    assert found.notes == (
        "no WAF: the words are not mapped to sentiment yet; "
        f"run `main_eval sentiment --answers {tmp_path / 'a'} --mapper …`",
    )


def test_results_come_back_as_written(made, tmp_path):
    write_results(tmp_path, made)
    assert read_results(tmp_path) == made


def test_the_same_settings_are_comparable(made):
    assert why_not_comparable(made.mode("slow"), made.mode("fast")) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"n": 5}, "n: 6 and 5"),
        ({"names_sha256": "f" * 64}, "sample names: "),
        ({"prompt_sha256": "f" * 64}, "prompts: "),
        ({"labels_sha256": "f" * 64}, "true labels: "),
        ({"split": "train"}, "split: test and train"),
        ({"corpus": "meld"}, "corpus: mer2023 and meld"),
        ({"media": {"fps": 1.0, "max_frames": 4}}, "media: fps 2.0 and 1.0"),
    ],
)
def test_reasons_why_two_are_not_comparable(made, change, reason):
    one = made.mode("slow")
    (found,) = why_not_comparable(one, one.model_copy(update=change))
    assert found.startswith(reason)


@pytest.mark.parametrize(
    ("part", "change", "reason"),
    [
        ("wheels", {"sha256": "f" * 64}, "wheels: "),
        ("wheels", {"rules": "mer2025"}, "rules: mer2026 and mer2025"),
        ("sampling", {"temperature": 1.0}, "temperature: 0.0 and 1.0"),
        ("sampling", {"max_tokens": 8}, "max_tokens: 64 and 8"),
        ("sampling", {"max_prompt_length": 8}, "max_prompt_length: "),
    ],
)
def test_reasons_hold_for_different_corpora_too(made, part, change, reason):
    one = made.mode("slow")
    other = one.model_copy(update={"corpus": "meld", part: getattr(one, part).model_copy(update=change)})
    (found,) = why_not_comparable(one, other, same_clips=False)
    assert found.startswith(reason)


def test_weights_have_a_fingerprint_wherever_they_lie(tmp_path):
    first = scored(write_answers(tmp_path / "a", "micro", model=tmp_path / "model")).mode("slow").weights_sha256
    (tmp_path / "model").rename(tmp_path / "moved")
    assert weights_sha256(tmp_path / "moved") == first
    (tmp_path / "moved" / "model.safetensors").write_bytes(b"trained on")
    assert weights_sha256(tmp_path / "moved") != first


def break_line(folder):
    path = folder / "fast.jsonl"
    path.write_bytes(path.read_bytes()[:-20])


def repeat_line(folder):
    path = folder / "slow.jsonl"
    path.write_bytes(path.read_bytes() * 2)


def drop_answers(folder):
    for mode in ("slow", "fast"):
        (folder / f"{mode}.jsonl").unlink()


def shorten_fast(folder):
    path = folder / "fast.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def garble(folder):
    path = folder / "slow.jsonl"
    path.write_bytes(b'{"index": 0}\n' + path.read_bytes())


def rename_clip(folder):
    path = folder / "slow.jsonl"
    path.write_bytes(path.read_bytes().replace(b"clip_3", b"clip_x"))


BROKEN = {
    break_line: r"fast\.jsonl, line 6: cut off",
    repeat_line: r"slow\.jsonl, line 7: the clip 'clip_0' appears twice",
    drop_answers: "no answers in this folder",
    shorten_fast: r"slow and fast answers are not comparable \(n: 6 and 5",
    garble: r"slow\.jsonl, line 1: name: Field required",
    rename_clip: r"not comparable \(sample names",
    lambda folder: (folder / "settings.json").unlink(): r"settings\.json: no such file",
}


@pytest.mark.parametrize(("harm", "message"), BROKEN.items(), ids=range(len(BROKEN)))
def test_a_broken_folder_is_refused_by_name(tmp_path, harm, message):
    folder = write_answers(tmp_path / "a", "micro", model=tmp_path / "model")
    harm(folder)
    harmed = {path: path.read_bytes() for path in folder.glob("*.json*")}
    with pytest.raises(InputError, match=message):
        scored(folder)
    # `run` fixes its files when it goes on; a reader must not.
    assert {path: path.read_bytes() for path in folder.glob("*.json*")} == harmed


def test_other_wheels_than_the_runs_must_be_named(tmp_path):
    folder = write_answers(
        tmp_path / "a", "micro", model=tmp_path / "model", wheels={"name": "official", "version": "1", "sha256": "0"}
    )
    with pytest.raises(InputError, match="--wheels DIR"):
        scored(folder)
    assert scored(folder, wheels_named=True).mode("slow").wheels.name == BUILTIN.name


def test_another_schema_version_is_refused(made, tmp_path):
    write_results(tmp_path, made)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 9}))
    with pytest.raises(InputError, match="schema version 9, but 4 is needed"):
        read_results(tmp_path)


def test_a_clip_without_an_answer_is_wrong_for_waf_whatever_its_truth(tmp_path):
    """No word is neutral, which would be right for every negative clip."""
    from recipe.mer_r1 import main_eval
    from recipe.mer_r1.eval import records

    folder = write_answers(tmp_path / "a", "mosi", model=tmp_path / "model", modes=("slow",))
    path, lines = folder / "slow.jsonl", records.read(folder / "slow.jsonl").values()
    assert {"negative", "positive"} <= {line["labels"][0] for line in lines}
    records.rewrite(path, [line | {"words": [], "response": "", "failed": "no clip"} for line in lines])
    main_eval.main(["sentiment", "--answers", str(folder), "--mapper", "lexicon"])
    found = scored(folder).mode("slow")
    assert (found.metrics["waf"].value, found.n_failed) == (0.0, len(lines))


def test_sentiments_of_other_clips_are_refused(tmp_path):
    from recipe.mer_r1 import main_eval
    from recipe.mer_r1.eval import records

    folder = write_answers(tmp_path / "a", "mosi", model=tmp_path / "model", modes=("slow",))
    path = folder / "slow.jsonl"
    lines = [*records.read(path).values()]
    records.rewrite(path, lines[:-1])
    main_eval.main(["sentiment", "--answers", str(folder), "--mapper", "lexicon"])
    records.rewrite(path, lines)
    with pytest.raises(InputError, match="main_eval sentiment"):
        scored(folder)


def test_the_judges_means_have_intervals(tmp_path):
    from report_cases import judge

    folder = write_answers(tmp_path / "a", "mme_emotion", model=tmp_path / "model", modes=("slow",))
    found = scored(judge(folder, "slow", statuses=("unparseable",)), bootstrap=50).mode("slow").metrics
    assert all(found[name].low < found[name].value < found[name].high for name in ("recognition", "reasoning", "cot"))


# --- several answers per clip


def sampled(tmp_path, corpus="mer2023", samples=3, bootstrap=0, **options):
    folder = write_answers(
        tmp_path / "a", corpus, model=tmp_path / "model", modes=("slow_sampled",), samples=samples, **options
    )
    return scored(folder, bootstrap=bootstrap).mode("slow_sampled")


def test_a_clip_with_several_answers_counts_with_their_mean(tmp_path):
    found = sampled(tmp_path)
    answers = [{f"clip_{index}": split_list(SLOW[(index + sample) % 6]) for index in range(6)} for sample in range(3)]
    each = [ew_scores(GOLD, one, BUILTIN) for one in answers]
    for key in ("P", "R"):
        assert found.metrics[key].value == pytest.approx(sum(one[key] for one in each) / 3)
    assert found.metrics["hit"].value == pytest.approx(sum(hit_rate(GOLD, one, BUILTIN)["hit"] for one in answers) / 3)
    assert (found.n, found.samples, found.n_empty, found.n_failed) == (6, 3, 3, 0)
    # SLOW has 6 answers: 4 emotion words on the wheels of 1 category, "calm" of 1 and an empty one.
    assert found.metrics["categories"].value == pytest.approx(5 / 6)


def test_more_answers_per_clip_are_no_more_clips(tmp_path):
    """The interval is over clips: the same answers three times are as uncertain as once."""
    once = sampled(tmp_path / "once", samples=1, bootstrap=200)
    folder = write_answers(
        tmp_path / "a", "mer2023", model=tmp_path / "once" / "model", modes=("slow_sampled",), samples=1
    )
    path = folder / "slow_sampled.jsonl"
    lines = [json.loads(line) | {"sample": sample} for line in path.read_text().splitlines() for sample in range(3)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    thrice = scored(folder, bootstrap=200).mode("slow_sampled")
    assert thrice.metrics == once.metrics
    assert thrice.names_sha256 == once.names_sha256
    assert why_not_comparable(once, thrice) == []


def test_clips_with_unequal_numbers_of_answers_are_refused(tmp_path):
    folder = write_answers(tmp_path / "a", "micro", model=tmp_path / "model", modes=("fast_sampled",), samples=2)
    path = folder / "fast_sampled.jsonl"
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole[:-1]))
    with pytest.raises(InputError, match=r"the clip 'clip_5' has 1 answers, others have 2; finish .*--samples 2"):
        scored(folder)
    path.write_bytes(b"".join(whole).replace(b'"sample": 1', b'"sample": 2'))
    with pytest.raises(InputError, match="numbered from 0 to 1"):
        scored(folder)


def test_a_line_without_a_sample_number_is_the_only_answer(tmp_path):
    folder = write_answers(tmp_path / "a", "micro", model=tmp_path / "model", modes=("slow",))
    before, path = scored(folder).mode("slow"), folder / "slow.jsonl"
    path.write_text(path.read_text().replace('"sample": 0, ', ""))
    assert "sample" not in path.read_text()
    assert scored(folder).mode("slow") == before


def test_sentiment_and_the_judge_say_that_they_take_one_answer_per_clip(tmp_path):
    found = sampled(tmp_path / "waf", "mosi", samples=2)
    assert found.metrics["waf"].value is None
    assert found.notes == (
        "no WAF: the file has 2 answers per clip, but `main_eval sentiment` takes one (--samples 1)",
    )
    found = sampled(tmp_path / "judge", "mme_emotion", samples=2)
    assert found.metrics["cot"].value is None
    assert "`main_eval judge` takes one" in found.notes[0]


def test_sentiment_leaves_out_files_with_several_answers_per_clip(tmp_path, capsys):
    from recipe.mer_r1 import main_eval

    modes = ("slow", "slow_sampled")
    folder = write_answers(tmp_path / "a", "mosi", model=tmp_path / "model", modes=modes, samples=2)
    main_eval.main(["sentiment", "--answers", str(folder), "--mapper", "lexicon"])
    assert (folder / "slow.sentiment.jsonl").is_file()
    assert not (folder / "slow_sampled.sentiment.jsonl").exists()
    assert "slow_sampled.jsonl is left out: it holds several answers per clip" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main_eval.main(["sentiment", "--answers", str(folder / "slow_sampled.jsonl"), "--mapper", "lexicon"])
    assert "holds several answers per clip" in capsys.readouterr().err
    (folder / "slow.jsonl").unlink()
    with pytest.raises(SystemExit, match="2"):
        main_eval.main(["sentiment", "--answers", str(folder), "--mapper", "lexicon"])


# --- answers of the form answer_think_answer


def test_the_form_is_in_the_results_and_confidences_are_not_asked_for(tmp_path):
    form = "answer_think_answer"
    found = scored(write_answers(tmp_path / "a", "micro", model=tmp_path / "model", form=form))
    assert {result.form for result in found.results} == {form}
    assert found.mode("slow").unread == f"confidences are not defined for the form {form}"
    assert found.gaps.keys() == {"F", "P", "R", "categories"}


def test_confidences_of_two_answers_are_refused(tmp_path):
    from recipe.mer_r1.eval.confidence_command import prepare

    folder = write_answers(tmp_path / "a", "micro", model=tmp_path / "model", form="answer_think_answer")
    with pytest.raises(InputError, match="the answers have the form answer_think_answer"):
        prepare(folder, None, BUILTIN, "split", -20.0)


def test_commands_take_the_out_folder_and_leave_out_what_they_are_not_for(tmp_path, capsys):
    for corpus in ("mosi", "ov_merd_plus", "mme_emotion"):
        write_answers(tmp_path / "all" / corpus, corpus, model=tmp_path / "model")
    assert folders_of_tasks(tmp_path / "all", ("waf",), "sentiment") == [tmp_path / "all" / "mosi"]
    assert "`main_eval sentiment` is not for them: mme_emotion, ov_merd_plus" in capsys.readouterr().out
    one = tmp_path / "all" / "ov_merd_plus"
    assert folders_of_tasks(one, ("waf",), "sentiment") == [one]  # as it was asked
    with pytest.raises(InputError, match=r"nothing to do for its corpora \(mme_emotion, mosi, ov_merd_plus\)"):
        folders_of_tasks(tmp_path / "all", ("hit",), "confidence")


def test_cases_finds_the_corpus_that_two_out_folders_share(tmp_path):
    for place in ("a/x", "a/y", "b/y", "b/z", "c/x", "c/y"):
        write_answers(tmp_path / place, "micro", model=tmp_path / "model")
    a, b, c = (tmp_path / name for name in "abc")
    assert same_corpus(a, b, None) == (a / "y", b / "y")
    assert same_corpus(a / "x", b / "z", None) == (a / "x", b / "z")
    assert same_corpus(a, c, "x") == (a / "x", c / "x")
    with pytest.raises(InputError, match="both have x, y; choose one with --corpus NAME"):
        same_corpus(a, c, None)
    with pytest.raises(InputError, match=r"--corpus z: .* both have y; choose"):
        same_corpus(a, b, "z")
