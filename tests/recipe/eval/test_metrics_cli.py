"""`main_eval score`: files in, table and JSON out, and every kind of bad input."""

import json
import math
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from recipe.mer_r1.eval.score import app
from recipe.mer_r1.method.metrics import ew_scores
from recipe.mer_r1.method.wheel import EmotionWheels

GOLD = 'name,openset\na,"[happy, sad]"\nb,angry\nc,\n'
PRED = '{"name": "a", "labels": ["joyful"]}\n\n{"name": "b", "labels": []}\n{"name": "c", "labels": "[sad]"}\n'


@pytest.fixture
def run(tmp_path):
    """Run the command on files given as name → content; returns exit code, output, errors and the JSON result."""

    def call(task, gold, pred, *options):
        paths = {}
        for role, (suffix, content) in {"gold": gold, "pred": pred}.items():
            paths[role] = tmp_path / f"{role}.{suffix}"
            if isinstance(content, dict):
                np.savez(paths[role], **content)
            elif content is not None:
                paths[role].write_text(content, encoding="utf-8")
        out = tmp_path / "deep" / "out.json"
        arguments = ["--task", task, "--gold", str(paths["gold"]), "--pred", str(paths["pred"]), "--json", str(out)]
        done = CliRunner().invoke(app, [*arguments, *options])
        result = json.loads(out.read_text(encoding="utf-8")) if out.exists() else None
        return done.exit_code, done.stdout, done.stderr, result

    return call


def objects(*items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def label_file(labels):
    return {
        "test_corpus": np.array(labels, dtype=object),
        "train_corpus": np.array({"x": {"emo": "sad"}}, dtype=object),
    }


def test_generated_answers_are_scored_not_the_truth_beside_them(run):
    row = {"name": "a", "labels": ["happy"], "response": "<think></think><answer>sad</answer>", "words": ["sad"]}
    generated = ("jsonl", json.dumps(row))
    code, _, _, result = run("ew", generated, generated)
    assert code == 0
    assert result["R"] == 0.0


def test_ew_from_csv_and_jsonl(run):
    code, out, _, result = run("ew", ("csv", GOLD), ("jsonl", PRED))
    expected = ew_scores(
        {"a": "happy, sad", "b": "angry", "c": ""}, {"a": "joyful", "b": "", "c": "sad"}, EmotionWheels.builtin()
    )
    assert code == 0
    assert [result[key] for key in "FPR"] == [expected[key] for key in "FPR"]
    assert result["n_scored_per_wheel"] == {f"w{k}": 2 for k in range(1, 6)}
    assert result["wheels"]["name"] == "mer-r1-builtin"
    assert result["versions"]["numpy"] == np.__version__
    assert {"git", "rules", "hit", "waf", "per_wheel", "task", "n"} <= result.keys()
    assert "w5" in out
    assert "mer-r1-builtin" in out


def test_undefined_scores_are_null_or_zero(run):
    files = ("csv", "name,openset\na,sad\n"), ("csv", "name,openset\na,happy\n")
    for rules, expected in (("mer2025", None), ("mer2026", 0.0)):
        code, _, _, result = run("ew", *files, "--rules", rules)
        assert (code, result["F"], result["P"], result["rules"]) == (0, expected, 0.0, rules)


def test_official_wheels_and_level_2(run, shared):
    folder = str(shared / "emotion_wheel" / "mer2026")
    code, _, _, result = run(
        "ew", ("csv", GOLD), ("jsonl", PRED), "--wheels", folder, "--level", "2", "--bootstrap", "20"
    )
    assert (code, result["level"], result["wheels"]["name"], result["rules"]) == (0, 2, "mer2026", "mer2025")
    assert result["ci95"].keys() == {"F", "P", "R"}


def test_the_published_npz_layouts(run):
    labels = label_file({"a": {"emo": "happy", "val": -10}, "b": {"emo": np.str_("worried")}, "c": {"emo": "neutral"}})
    pred = {"filenames": np.array(["a", "b", "c"]), "fileitems": objects("[joy, hope]", ["sad"], np.array(["calm"]))}
    code, _, err, result = run("hit", ("npz", labels), ("npz", pred), "--key", "test_corpus")
    assert code == 0, err
    assert (result["hit"], result["n"]) == (0.5, 3)


def test_cached_outputs_are_taken_by_the_list_rule_even_when_cut(run):
    pred = {"filenames": np.array(["a"]), "fileitems": np.array(["[sad, 'angry'"])}
    code, _, _, result = run("ew", ("csv", 'name,openset\na,"sad, angry"\n'), ("npz", pred))
    assert (code, result["F"]) == (0, 1.0)


@pytest.mark.parametrize(("emotions", "word"), [("meld", "joy"), ("iemocap", "sad"), ("joy, fear", "fear")])
def test_numbered_emotions(run, emotions, word):
    labels = label_file({"a": {"emo": np.int64(1), "val": 0.0}})
    files = ("npz", labels), ("csv", f"name,openset\na,{word}\n")
    code, _, err, result = run("hit", *files, "--key", "test_corpus", "--emotions", emotions)
    assert (code, result["hit"]) == (0, 1.0), err


def test_waf_with_missing_values_and_odd_words(run):
    labels = label_file({"a": {"val": 1.5}, "b": {"emo": "x"}, "c": {"val": 0.0}, "d": {"val": np.float32(0.2)}})
    pred = "name,sentiment\na,positive\nb,negative\nc,positive\nd,mixed\n"
    code, out, err, result = run("waf", ("npz", labels), ("csv", pred), "--key", "test_corpus")
    assert code == 0, err
    assert (result["n"], result["n_scored"], result["n_other"], result["wheels"]) == (4, 3, 1, None)
    assert 0 < result["waf"] < 1
    assert "scored 3 of 4" in out


def test_waf_from_csv_and_jsonl(run):
    gold = '{"name": "a", "val": 1}\n{"name": "b", "val": -0.5}\n'
    code, _, _, result = run(
        "waf",
        ("jsonl", gold),
        ("jsonl", gold.replace('"val": 1', '"sentiment": "positive"').replace('"val": -0.5', '"sentiment": "neutral"')),
    )
    assert (code, result["waf"]) == (0, 1.0)


def test_names_select_the_samples(run):
    gold, pred = "name,label\nSes05_a,sad\nSes01_b,sad\n", "name,openset\nSes05_a,sad\n"
    code, _, _, result = run("hit", ("csv", gold), ("csv", pred), "--names", "^Ses05")
    assert (code, result["n"], result["hit"]) == (0, 1, 1.0)


def test_a_whole_number_is_a_name_as_it_is_in_csv(run):
    code, _, err, result = run("ew", ("csv", "name,openset\n7,sad\n"), ("jsonl", '{"name": 7, "labels": "sad"}'))
    assert (code, result["F"]) == (0, 1.0), err


def test_missing_zero_scores_and_counts(run):
    code, out, _, result = run(
        "ew", ("csv", GOLD), ("csv", 'name,openset\na,"happy,sad"\nz,sad\n'), "--missing", "zero"
    )
    assert (code, result["unmatched"], result["R"]) == (0, {"gold": 2, "pred": 1}, 0.5)
    assert "2 labels without a prediction scored 0, 1 predictions without a label ignored" in out


def test_a_missing_sentiment_is_wrong_and_no_odd_word(run):
    gold, pred = "name,val\na,1\nb,-1\n", "name,sentiment\na,positive\n"
    code, out, _, result = run("waf", ("csv", gold), ("csv", pred), "--missing", "zero")
    assert (code, result["n_other"], result["unmatched"]) == (0, 0, {"gold": 1, "pred": 0})
    assert result["waf"] == pytest.approx(1 / 3)
    assert "1 labels without a prediction counted as wrong" in out


def rows(text, header="name,openset"):
    return "csv", f"{header}\n{text}\n"


def labels(**label):
    return "npz", label_file({"a": label})


SAD = rows("a,sad")
POSITIVE = rows("a,positive", "name,sentiment")
KEY = ("--key", "test_corpus")
NAMELESS = {"filenames": objects(None), "fileitems": objects("sad")}
UNEVEN = {"filenames": np.array(["a"]), "fileitems": np.array(["x", "y"])}
BAD = {
    "missing file": ("ew", ("csv", None), SAD, (), "gold.csv: no such file"),
    "missing npz": ("ew", ("npz", None), SAD, (), "gold.npz: no such file"),
    "unknown suffix": ("ew", ("xml", "x"), SAD, (), "must end in .csv, .jsonl, .npz"),
    "missing column": ("ew", rows("a,sad", "name,words"), SAD, (), "openset or labels or label, found name, words"),
    "missing name": ("ew", SAD, rows("sad", "openset"), (), "pred.csv, header: needs the columns name"),
    "missing key": (
        "ew",
        SAD,
        ("jsonl", '{"name": "a"}'),
        (),
        "pred.jsonl, line 1: needs the columns name and openset",
    ),
    "empty file": ("ew", ("csv", ""), SAD, (), "found nothing"),
    "no rows": ("ew", ("csv", "name,openset\n"), SAD, (), "the file has no rows"),
    "too many fields": ("ew", rows("a,sad,angry"), SAD, (), "line 2: 3 fields for 2 columns"),
    "broken quotes": ("ew", rows('a,"sad"x'), SAD, (), "gold.csv: cannot be read as CSV"),
    "bracket in CSV": ("ew", SAD, rows('a,"[sad, angry"'), (), "pred.csv, line 2: unbalanced bracket"),
    "bracket in JSON": ("ew", SAD, ("jsonl", '{"name": "a", "labels": "sad]"}'), (), "line 1: unbalanced bracket"),
    "twice": ("ew", SAD, rows("a,sad\na,sad"), (), "line 3: the name 'a' appears twice"),
    "nameless": ("ew", SAD, rows(",sad"), (), "line 2: the name is empty"),
    "not JSON": ("ew", SAD, ("jsonl", "{name: a}"), (), "line 1: is not JSON"),
    "no object": ("ew", SAD, ("jsonl", "[1]"), (), "line 1: is not a JSON object"),
    "name null": (
        "ew",
        SAD,
        ("jsonl", '{"name": null, "labels": "sad"}'),
        (),
        "line 1: the name None must be a string",
    ),
    "name list": ("ew", SAD, ("jsonl", '{"name": ["a"], "labels": "sad"}'), (), "the name ['a'] must be a string"),
    "name true": ("ew", SAD, ("jsonl", '{"name": true, "labels": "sad"}'), (), "the name True must be a string"),
    "name None": ("ew", SAD, ("npz", NAMELESS), (), "pred.npz, item 0: the name None must be a string"),
    "no words": ("ew", SAD, ("jsonl", '{"name": "a", "labels": {"x": 1}}'), (), "must be a string or a list of words"),
    "no prediction": ("ew", rows("a,sad\nb,sad"), SAD, (), "samples without a prediction: 1 (b)"),
    "no gold": ("ew", SAD, rows("a,sad\nb,sad"), (), "samples without a gold label: 1 (b)"),
    "several labels": ("hit", rows('a,"sad, angry"', "name,label"), SAD, (), "one label per sample"),
    "no score": ("waf", rows("a,high", "name,val"), POSITIVE, (), "line 2: the score 'high'"),
    "wheel folder": ("ew", SAD, SAD, ("--wheels", "/nowhere"), "wheel1.xlsx: cannot be read"),
    "unknown rules": ("ew", SAD, SAD, ("--rules", "mer2024"), "mer2024"),
    "unknown task": ("map", SAD, SAD, (), "map"),
    "level of hit": ("hit", SAD, SAD, ("--level", "2"), "--level 2 cannot be used with --task hit"),
    "wheels of waf": ("waf", SAD, SAD, ("--rules", "mer2025"), "cannot be used with --task waf"),
    "no regex": ("ew", SAD, SAD, ("--names", "("), "not a regular expression"),
    "nothing selected": ("ew", SAD, SAD, ("--names", "x"), "matches no name"),
    "output": ("ew", SAD, SAD, ("--json", "/proc/none/out.json"), "cannot be written"),
    "no key": ("hit", labels(emo="sad"), SAD, (), "choose them with --key; it has test_corpus, train_corpus"),
    "wrong key": ("hit", labels(emo="sad"), SAD, ("--key", "test1"), "no label member 'test1'"),
    "number": ("hit", labels(emo=3), SAD, KEY, "add --emotions meld|iemocap"),
    "high number": ("hit", labels(emo=9), SAD, (*KEY, "--emotions", "meld"), "not in 0 … 6"),
    "no emo": ("hit", labels(val=1), SAD, KEY, "no label has an entry 'emo'"),
    "uneven": ("ew", SAD, ("npz", UNEVEN), (), "1 filenames but 2 fileitems"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_bad_input_is_named_and_ends_with_2(run, case):
    task, gold, pred, options, message = case
    code, _, err, _ = run(task, gold, pred, *options)
    assert code == 2
    assert message in " ".join(err.split())
    assert "Traceback" not in err


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


@pytest.mark.parametrize("where", ["filenames", "fileitems"])
def test_a_pickle_that_runs_code_is_refused_and_not_run(run, tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    pred = {"filenames": objects("a"), "fileitems": objects("sad")} | {where: objects(Evil())}
    code, _, err, _ = run("ew", SAD, ("npz", pred))
    assert code == 2
    assert f"member {where}.npy: refused" in err
    assert "system" in err
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("value", [complex(1, 2), {1, 2}, b"x", range(3)])
def test_other_objects_never_reach_the_scores(run, value):
    code, _, err, _ = run("ew", SAD, ("npz", {"filenames": np.array(["a"]), "fileitems": objects(value)}))
    assert code == 2
    assert "refused" in err or "must be a string or a list" in err


def test_a_damaged_npz_is_named(run, tmp_path):
    path = tmp_path / "damaged.npz"
    path.write_bytes(b"PK\x03\x04 no archive")
    done = CliRunner().invoke(app, ["--task", "ew", "--gold", str(path), "--pred", str(path)])
    assert done.exit_code == 2
    assert "damaged.npz: cannot be read as npz" in done.stderr


def test_numbers_and_arrays_of_any_pickle_protocol_are_admitted(tmp_path):
    from recipe.mer_r1.method.wheels.plain_npz import _Unpickler

    value = {"a": {"emo": np.str_("sad"), "val": np.float32(1.5)}, "b": [1, 2.5, None, True, np.arange(3)]}
    for protocol in range(3, pickle.HIGHEST_PROTOCOL + 1):
        path = tmp_path / f"p{protocol}"
        path.write_bytes(pickle.dumps(value, protocol=protocol))
        with path.open("rb") as stream:
            found = _Unpickler(stream).load()
        assert found["a"] == value["a"]
        assert math.isclose(found["b"][4].sum(), 3)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [([], 2, "no subcommand"), (["scroe"], 2, "unknown subcommand 'scroe'"), (["--help"], 0, "score")],
)
def test_the_dispatcher(arguments, code, text):
    done = subprocess.run(
        [sys.executable, "-m", "recipe.mer_r1.main_eval", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert text in done.stdout + done.stderr


def test_the_dispatcher_runs_the_subcommand(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("name,openset\na,sad\n", encoding="utf-8")
    command = [sys.executable, "-X", "importtime", "-m", "recipe.mer_r1.main_eval", "score", "--task", "ew"]
    done = subprocess.run([*command, "--gold", path, "--pred", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "score      100.00" in done.stdout
    assert "| torch" not in done.stderr
