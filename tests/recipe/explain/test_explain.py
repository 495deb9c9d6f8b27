"""`explain` on a batch whose numbers are worked out by hand: one prompt, two responses, the built-in wheels."""

import io
import json
import math
from html.parser import HTMLParser

import pytest
import torch
from clip_shards import one_clip_shard
from rich.console import Console

from recipe.mer_r1.explain.__main__ import main
from recipe.mer_r1.explain.choose import ChoiceError, choose_experiment, find_row
from recipe.mer_r1.explain.page import page
from recipe.mer_r1.explain.rollout_batch import BatchError, check_texts, group_of, read_batch, word_confidences
from recipe.mer_r1.explain.screen import show
from recipe.mer_r1.explain.trace import trace
from recipe.mer_r1.method.alignment import AlignedWord
from recipe.mer_r1.method.confidence import calibrate, read, rewards
from recipe.mer_r1.method.experiments import Estimator, ExperimentError, load_experiment
from recipe.mer_r1.method.margin import margins
from recipe.mer_r1.method.token_sets import CategorySets

PROMPT = "user\nSubtitle: It works!\nWhat does the person feel? Reason inside <think> </think>, then list the emotion "
PROMPT += "words inside <answer> </answer>.\nassistant\n"
FIRST = "<think>A <script>alert(1)</script> smile, \x1b[31m.</think><answer>happy, sad, blorp, Happy</answer>"
SECOND = "<think>A smile.</think><answer>happy</answer>"
ROOT_HALF = 0.5**0.5  # (x - mean) / std of the larger of two values


def confidences(wheels, word, slow, fast, slow_word, fast_word):
    """A stored word: ``slow`` and ``fast`` at its own category of every wheel, -3 at all others."""
    entry = {"word": word, "counted": True, "slow_word": slow_word, "fast_word": fast_word}
    for mode, own in (("slow", slow), ("fast", fast)):
        entry[mode] = {
            wheel: {c: own if c == wheels.category(word, wheel) else -3.0 for c in wheels.all_categories(wheel)}
            for wheel in wheels.ids
        }
    return entry


def row(number, output, signals, terms, words=None):
    found = {"input": PROMPT, "output": output, "gts": ["happy"], "score": 1.0, "step": 3, "uid": f"ab-1_{number}_0"}
    found |= {"signals": signals, "terms": terms, "advantage": sum(terms.values())}
    return found if words is None else {**found, "words": words}


def signals(recall, precision, f1, **calib):
    names = ("calib_pos", "calib_neg", "calib_pos_word", "calib_neg_word")
    return {"recall": recall, "precision": precision, "f1": f1, "format": 1.0, "f1_first": 0.0} | {
        name: calib.get(name) for name in names
    }


def terms(precision, calib_pos):
    return {"recall": 0.0, "precision": precision, "calib_pos": calib_pos, "calib_neg": 0.0, "format": 0.0}


@pytest.fixture
def rows(builtin):
    """Δ of happy +0.5 in the first response and +0.3 in the second, of sad -0.8: R⁺ 0.5 and 0.3, R⁻ 0.8."""
    first = [
        confidences(builtin, "happy", -1.0, -1.5, -1.1, -1.2),
        confidences(builtin, "sad", -2.0, -1.2, -2.5, -2.1),
        confidences(builtin, "blorp", -9.0, -8.0, -9.0, -8.0),
        {"word": "Happy", "counted": False, "slow": None, "fast": None, "slow_word": None, "fast_word": None},
    ]
    second = [confidences(builtin, "happy", -1.0, -1.3, -1.0, -1.2)]
    calib = {"calib_pos": 0.5, "calib_neg": 0.8, "calib_pos_word": 0.1, "calib_neg_word": 0.4}
    return [
        row(0, FIRST, signals(1.0, 0.5, 2 / 3, **calib), terms(-ROOT_HALF, 0.1 * ROOT_HALF), first),
        row(
            1,
            SECOND,
            signals(1.0, 1.0, 1.0, calib_pos=0.3, calib_pos_word=0.2),
            terms(ROOT_HALF, -0.1 * ROOT_HALF),
            second,
        ),
    ]


def explain(rows, wheels, index=0, name="mer_r1"):
    node = load_experiment(name)
    return trace(rows[index], rows, wheels, name, node.form, Estimator.from_config(node.terms, node.whiten))


def on_screen(found):
    console = Console(width=90, record=True, file=io.StringIO())
    show(found, console)
    return console.export_text()


@pytest.fixture
def write(tmp_path):
    def _write(rows):
        path = tmp_path / "3.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return _write


class Text(HTMLParser):
    """The tags of a page, which must be closed in order, and its text without the style sheet."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.open, self.words = set(), [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def test_trace_has_the_numbers_worked_out_by_hand(rows, builtin):
    found = explain(rows, builtin)
    assert [word.verdict for word in found.words] == ["correct", "incorrect", "unknown", "correct"]
    assert found.rewards == pytest.approx(
        {"calib_pos": 0.5, "calib_neg": 0.8, "calib_pos_word": 0.1, "calib_neg_word": 0.4}
    )
    # At "happy" the true category has -1.0 in the response and -1.5 in the branch, every other -3.
    assert found.margins["margin_slow"] == pytest.approx(2.0)
    assert found.margins["margin_fast"] == pytest.approx(1.5)
    precision = found.terms[1]
    assert (precision.mean, precision.std) == pytest.approx((0.75, 0.125**0.5))
    assert found.advantage == pytest.approx(-ROOT_HALF + 0.1 * ROOT_HALF, abs=1e-5)
    assert len(found.readings) == 2 * len(builtin.ids)
    assert found.differences == []
    assert len(found.checks) == 15


def test_what_the_file_says_otherwise_is_named(rows, builtin):
    rows[0]["signals"]["precision"] = 0.75
    rows[0]["terms"]["precision"] = -0.5
    rows[0]["signals"]["calib_neg"] = None
    found = explain(rows, builtin)
    # Two values are ±0.707 inside their group whatever they are, so that the advantage stays.
    assert {check.name for check in found.differences} == {"precision", "A[precision]", "calib_neg"}
    for text in (" ".join(on_screen(found).split()), " ".join(Text(page(found)).words)):
        assert "differs from the file in 3 of 15 numbers: precision: file 0.750, here 0.500" in text
        assert "calib_neg: file –, here 0.800" in text
    assert explain(rows, builtin, 1).differences == []


def test_screen_and_page_say_it_all(rows, builtin):
    found = explain(rows, builtin)
    document = Text(page(found))
    for text in (on_screen(found), " ".join(document.words)):
        for said in ("It works!", "ab-1_0_0", "+0.500", "+0.800", "-0.636", "agrees with the file: 15 numbers", "E⁻"):
            assert said in text
        assert "“blorp” takes no part: it has no category" in text
        assert "“Happy” takes no part: it is already earlier in the answer" in text


def test_responses_can_do_nothing_to_page_or_terminal(rows, builtin):
    rows[0]["gts"] = ["happy", "<img src=x>"]
    found = explain(rows, builtin)
    document = page(found)
    assert not {"script", "img", "link"} & Text(document).tags
    assert "&lt;script&gt;alert(1)" in document
    assert "<script>alert(1)</script>" in "".join(Text(document).words)
    for text in (document, on_screen(found)):
        assert "\x1b" not in text
        assert "␛[31m" in text


def test_page_needs_no_other_file(rows, builtin):
    document = page(explain(rows, builtin))
    assert "://" not in document
    assert "url(" not in document
    assert "src=" not in document


def test_coverage_is_shown_where_the_file_has_it(rows, builtin):
    assert "Own first token" not in on_screen(explain(rows, builtin))
    for word, covered in zip(rows[0]["words"], (True, False), strict=False):
        word["covered"] = dict.fromkeys(("w1", "w2"), covered)
    found = explain(rows, builtin)
    said = "2 of 4 readings, 2 of 2 at the first word."
    for text in (" ".join(on_screen(found).split()), " ".join(Text(page(found)).words)):
        assert f"Own first token in the category's set (Eq. 1): {said}" in text


def test_a_format_that_the_length_of_the_thought_took_is_no_difference(rows, builtin):
    rows[0]["signals"]["format"] = 0.0
    assert "format" in {check.name for check in explain(rows, builtin).differences}
    rows[0]["thought_tokens"] = 3
    found = explain(rows, builtin)
    assert "format" not in {check.name for check in found.differences}
    assert "format 0 by mer_r1.min_thought_tokens: the thought has 3 tokens" in found.notes


def test_without_confidences_the_rest_is_shown_and_the_reason(rows, builtin):
    for entry in rows:
        del entry["words"]
        entry["signals"] = {name: value for name, value in entry["signals"].items() if "calib" not in name}
        entry["terms"] = {"f1+format": -ROOT_HALF if entry is rows[0] else ROOT_HALF}
        entry["advantage"] = entry["terms"]["f1+format"]
    found = explain(rows, builtin, name="baseline")
    assert found.differences == []
    for text in (on_screen(found), " ".join(Text(page(found)).words)):
        assert "no confidences: the run had no confidence pass" in text
        assert "-0.707" in text
        assert "Eq. 11" not in text


def test_an_answer_without_words(rows, builtin):
    rows.append(row(2, "<think>A smile.", signals(0.0, 0.0, 0.0) | {"format": 0.0}, terms(0.0, 0.0), []))
    found = explain(rows, builtin, 2)
    for text in (on_screen(found), " ".join(Text(page(found)).words)):
        assert "The answer has no words." in text
        assert "no confidences: the answer has no words" in text


def test_confidences_of_other_wheels_are_not_read(rows, builtin):
    for mode in ("slow", "fast"):
        for word in rows[0]["words"][:3]:
            word[mode]["w1"]["elated"] = word[mode]["w1"].pop(builtin.all_categories("w1")[0])
    found = explain(rows, builtin)
    assert found.readings == []
    assert "the file does not use the wheels" in found.notes[0]


def test_confidences_of_other_words_are_not_read(rows, builtin):
    rows[0]["words"][1]["word"] = "glad"
    found = explain(rows, builtin)
    assert found.names == []
    assert "for other words (happy, glad, blorp, Happy)" in found.notes[0]


def test_what_a_run_writes_is_read_back(builtin):
    names = [(wheel, category) for wheel in builtin.ids for category in builtin.all_categories(wheel)]
    tokens = [[index] for index in range(len(names))]
    sad = names.index(("w1", builtin.category("sad", "w1")))
    tokens[sad] = []  # every token of it is another category's, too
    words = [
        AlignedWord("happy", 5, 4, 99),
        AlignedWord("sad", 7, 6, 98),
        AlignedWord("Sad", 9, 8, 98),
        AlignedWord("x", None, None),
    ]
    slow, fast = (torch.randn(3, len(names) + 1, generator=torch.Generator().manual_seed(seed)) - 3 for seed in (1, 2))
    written = calibrate(
        words, slow, fast, ["happy"], builtin, CategorySets(names, tokens, [[1.0] * len(ids) for ids in tokens])
    )
    stored = json.loads(json.dumps(written.words_json(), allow_nan=False))
    confidences, columns = word_confidences(stored)
    assert columns == names
    assert [word.rows is None for word in confidences] == [False, False, True, True]
    readings = read(confidences, ["happy"], builtin, columns)
    assert math.isnan(confidences[0].rows["slow"][sad])
    assert confidences[1].rows["slow"][sad] == confidences[1].rows["slow"][-1]  # its own token is all that it has
    assert [word.covered for word in confidences] == [word.covered for word in written.words]
    assert rewards(readings) == written.signals
    assert margins(confidences, ["happy"], builtin, columns) == written.margins


def test_another_experiment_than_the_runs(rows, builtin):
    found = explain(rows, builtin, name="b2")
    # recall + 0.1 R⁺: 1.05 and 1.03; precision + 0.1 R⁻: 0.58 and 1.0.
    assert found.terms[0].group == pytest.approx([1.05, 1.03])
    assert found.advantage == pytest.approx(ROOT_HALF - ROOT_HALF, abs=1e-4)
    assert found.notes == [
        "the run computed its advantage from other terms: recall, precision, calib_pos, calib_neg, format"
    ]
    assert "recall + 0.1 R⁺" in on_screen(found)


def test_experiments_are_found_by_the_files_terms(rows):
    assert choose_experiment(rows, []) == (["mer_r1"], [])
    assert choose_experiment(rows, ["experiment=a2", "experiment.lambda_cali=1"]) == (
        ["a2"],
        ["experiment.lambda_cali=1"],
    )
    plain = [{"terms": {"recall": 0.5, "precision": 0.0, "format": 0.0}, "advantage": 0.5}]
    assert choose_experiment(plain, [])[0] == ["rd_ad"]
    assert choose_experiment([{**plain[0], "advantage": 0.7}], [])[0] == ["gdpo"]  # whitened
    assert choose_experiment([{"terms": {"f1+format": 1.0}, "advantage": 1.0}], [])[0] == ["affectgpt_r1", "baseline"]


@pytest.mark.parametrize(
    ("terms", "overrides", "message"),
    [
        ({"speed": 1.0}, [], "no experiment in conf/experiment has the terms"),
        ({}, [], "the file has no terms"),
        ({"recall": 1.0}, ["trainer.lr=1"], "must be experiment=NAME"),
    ],
)
def test_no_experiment_is_guessed(terms, overrides, message):
    with pytest.raises(ChoiceError, match=message):
        choose_experiment([{"terms": terms, "advantage": 1.0}], overrides)


def test_overrides_of_an_experiment():
    assert Estimator.from_config(load_experiment("mer_r1", ["experiment.lambda_cali=0.3"]).terms, False).terms[
        2
    ].weight == pytest.approx(0.3)
    with pytest.raises(ExperimentError, match=r"lambda_kali.*experiment\.lambda_cali"):
        load_experiment("mer_r1", ["experiment.lambda_kali=0.3"])
    with pytest.raises(ExperimentError, match="use one of a1, a2"):
        load_experiment("mer_r2")


def test_responses_are_found_by_uid_prefix_and_number():
    rows = [{"uid": uid} for uid in ("12-a_0_0", "12-a_1_0", "7f-b_0_0")]
    assert find_row(rows, "12-a_1_0") is rows[1]
    assert find_row(rows, "7f") is rows[2]
    assert find_row(rows, "3") is rows[2]
    with pytest.raises(ChoiceError, match="2 uids begin with '12'"):
        find_row(rows, "12")
    with pytest.raises(ChoiceError, match=r"unknown uid '7f-b_1_0'.*\n  7f-b_0_0"):
        find_row(rows, "7f-b_1_0")
    assert group_of("12-a_1_0") == "12-a"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: not JSON"),
        ('{"uid": "a_0_0", "signals": {}}\n', "line 1: column 'input' is missing"),
        ("[1]\n", "line 1: a JSON object is needed, not a list"),
        ('{"input": "a', "line 1: not JSON"),
        ('{"uid": "a_0_0", "signals": {}, "input": 1}', "line 1: input is a int"),
    ],
)
def test_bad_files_are_named_with_the_line(text, message, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BatchError, match=rf"bad\.jsonl.*{message}"):
        check_texts(read_batch(path))


def test_a_word_without_its_columns_is_named(rows, write):
    del rows[1]["words"][0]["fast_word"]
    with pytest.raises(BatchError, match="line 2: the words have no fast_word"):
        check_texts(read_batch(write(rows)))


def test_command_line(rows, write, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    path, out = write(rows), tmp_path / "new" / "page.html"
    assert main([str(path), "ab-1_0", "--html", str(out), "experiment.lambda_cali=0.1"]) == 0
    said = capsys.readouterr().out
    assert "agrees with the file: 15 numbers" in said
    assert max(map(len, said.splitlines()[:-1])) <= 80
    text = out.read_text(encoding="utf-8")
    assert "alert(1)" in text
    assert "An emotion wheel is a table" in text
    assert "No frames: there is no config.yaml of a run in the folders around" in text
    assert main([str(path), "1", "experiment.lambda_cali=0.2"]) == 0
    assert "differs from the file" in capsys.readouterr().out.replace("\n", " ")
    for arguments, message in (
        (["9"], "unknown uid '9'"),
        (["1", "experiment=nothing"], "unknown experiment 'nothing'"),
        (["1", "--wheels", str(tmp_path / "nowhere")], "nowhere"),
        (["1", "experiment=videoauto_r1", "experiment.terms=[{signals: {joy: 1}}]"], "unknown signal 'joy'"),
    ):
        assert main([str(path), *arguments]) == 2
        assert message in capsys.readouterr().err
    assert main([str(tmp_path / "none.jsonl"), "1"]) == 2
    assert "none.jsonl" in capsys.readouterr().err


def test_the_page_shows_frames_of_the_clip(rows, write, tmp_path, capsys):
    """Of the shard that the run names, or of --shard; a file of an earlier version has no `clip`."""
    shard, name = one_clip_shard(tmp_path, labels=rows[0]["gts"], subtitle="")
    run, out = tmp_path / "run", tmp_path / "page.html"
    (run / "rollouts").mkdir(parents=True)
    (run / "config.yaml").write_text(f"preset: {{train_files: '{shard}', media_root: null}}\n")
    batch = run / "rollouts" / "1.jsonl"
    for change, said in (({}, None), ({"clip": name}, None), ({"clip": "gone"}, f"{shard}: no clip named 'gone'")):
        batch.write_text("".join(json.dumps(row | change) + "\n" for row in rows))
        assert main([str(batch), "1", "--html", str(out)]) == 0
        text = out.read_text(encoding="utf-8")
        assert (text.count('<img src="data:image/jpeg;base64,') > 1) == (said is None)
        assert (f"No frames: {said}".replace("'", "&#x27;") in text) == (said is not None)
    batch.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "config.yaml").unlink()
    assert main([str(batch), "1", "--html", str(out), "--shard", str(shard)]) == 0
    assert "<img src=" in out.read_text(encoding="utf-8")
