"""`main_eval sentiment` by a lexicon, and the scores of its file."""

import json

import pytest

from recipe.mer_r1 import main_eval
from recipe.mer_r1.eval.sentiment import lexicon
from recipe.mer_r1.eval.sentiment.lexicon import map_words, polarity

SMALL = {"happy": 2.7, "calm": 1.3, "sad": -2.1, "angry": -2.3, "a": 0.1, "b": 0.2, "c": -0.3}

ANSWERS = {
    "one": ["happy", "joyful"],
    "two": ["sad", "worried"],
    "three": [],
    "four": ["angry"],
    "five": ["qwertyuiop"],
    "six": ["happy"],
}


def write_answers(path, answers):
    """As `main_eval run` writes them: the truth beside the answer."""
    lines = [
        {"index": index, "name": name, "labels": ["other"], "response": "…", "words": words}
        for index, (name, words) in enumerate(answers.items())
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def exits_with(code, arguments):
    with pytest.raises(SystemExit) as stopped:
        main_eval.main([str(part) for part in arguments])
    assert stopped.value.code == code


@pytest.fixture
def mapped(tmp_path):
    answers, out = write_answers(tmp_path / "slow.jsonl", ANSWERS), tmp_path / "new" / "slow.sentiment.jsonl"
    main_eval.main(["sentiment", "--answers", str(answers), "--out", str(out), "--mapper", "lexicon"])
    return out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["happy"], "positive"),
        ([" Happy ", "SAD"], "positive"),
        (["calm", "angry"], "negative"),
        (["a", "b", "c"], "neutral"),  # 0.1 + 0.2 − 0.3 is not 0 in binary
        (["sad", "qwertyuiop", "qwertyuiop"], "negative"),
        (["not happy"], None),
        (["qwertyuiop"], None),
        ([], None),
    ],
)
def test_polarity_is_the_sign_of_the_mean_of_known_words(words, expected):
    assert polarity(words, SMALL) == expected


def test_what_is_not_known_is_neutral():
    found = [map_words("x", words, SMALL) for words in ([], ["qwertyuiop"], ["sad"])]
    assert [(one.sentiment, one.status) for one in found] == [
        ("neutral", "empty"),
        ("neutral", "unknown"),
        ("negative", "mapped"),
    ]


def test_the_package_knows_plain_words():
    table = lexicon.load()
    assert polarity(["happy", "joyful"], table) == "positive"
    assert polarity(["sad", "angry"], table) == "negative"
    assert all(-4 <= value <= 4 for value in table.values())


def test_lines_and_meta(mapped):
    assert read_lines(mapped)[:3] == [
        {"name": "one", "words": ["happy", "joyful"], "sentiment": "positive"},
        {"name": "two", "words": ["sad", "worried"], "sentiment": "negative"},
        {"name": "three", "words": [], "sentiment": "neutral"},
    ]
    meta = json.loads(mapped.with_suffix(".meta.json").read_text())
    assert meta["mapper"]["name"] == "lexicon"
    assert meta["mapper"]["version"] == meta["versions"]["vaderSentiment"]
    counts = {name: count for name, count in meta["counts"].items() if count}
    assert counts == {"n": 6, "n_positive": 2, "n_negative": 2, "n_neutral": 2, "n_empty": 1, "n_unknown": 1}


def test_waf_of_the_file_is_that_computed_by_hand(mapped, tmp_path):
    gold = tmp_path / "gold.csv"
    gold.write_text("name,val\none,1.5\ntwo,-0.2\nthree,0.4\nfour,-3\nfive,0\nsix,-1\n")
    result = tmp_path / "waf.json"
    exits_with(0, ["score", "--task", "waf", "--gold", gold, "--pred", mapped, "--json", result])
    # `five` has the true score 0 and is dropped. Positive: one truly and rightly, three missed (neutral), six wrongly
    # so: P = R = ½. Not positive: two and four rightly of two, four, six; three wrongly so: P = R = ⅔.
    waf = json.loads(result.read_text())
    assert waf["n_scored"] == 5
    assert waf["waf"] == pytest.approx((2 * 1 / 2 + 3 * 2 / 3) / 5)


def test_a_folder_is_mapped_mode_by_mode_beside_its_answers(tmp_path, capsys):
    for mode in ("slow", "fast_sampled"):
        write_answers(tmp_path / f"{mode}.jsonl", ANSWERS if mode == "slow" else {"one": ["sad"]})
    main_eval.main(["sentiment", "--answers", str(tmp_path), "--mapper", "lexicon"])
    assert len(read_lines(tmp_path / "slow.sentiment.jsonl")) == len(ANSWERS)
    (line,) = read_lines(tmp_path / "fast_sampled.sentiment.jsonl")
    assert line["sentiment"] == "negative"
    assert json.loads((tmp_path / "fast_sampled.sentiment.meta.json").read_text())["counts"]["n"] == 1
    assert f"{tmp_path / 'slow.sentiment.jsonl'}: n 6" in capsys.readouterr().out
    before = sorted(tmp_path.iterdir())
    main_eval.main(["sentiment", "--answers", str(tmp_path), "--mapper", "lexicon"])
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_that_cannot_be_mapped(tmp_path, capsys):
    exits_with(2, ["sentiment", "--answers", tmp_path, "--mapper", "lexicon"])
    assert "no answers in this folder (slow.jsonl, fast.jsonl" in capsys.readouterr().err
    write_answers(tmp_path / "slow.jsonl", ANSWERS)
    exits_with(2, ["sentiment", "--answers", tmp_path, "--out", tmp_path / "x.jsonl", "--mapper", "lexicon"])
    assert "--out needs one file" in capsys.readouterr().err
    exits_with(2, ["sentiment", "--answers", tmp_path / "no.jsonl", "--mapper", "lexicon"])
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "more", "message"),
    [
        ("x.csv", ["--mapper", "lexicon"], "must end in .jsonl"),
        ("slow.jsonl", ["--mapper", "lexicon"], "file of the answers"),
        ("x.jsonl", ["--mapper", "lexicon", "--model", "m"], "--model cannot be used with --mapper lexicon"),
        ("x.jsonl", ["--mapper", "llm", "--model", "m"], "needs --endpoint and --model"),
    ],
)
def test_wrong_arguments(tmp_path, capsys, out, more, message):
    answers = write_answers(tmp_path / "slow.jsonl", ANSWERS)
    exits_with(2, ["sentiment", "--answers", answers, "--out", tmp_path / out, *more])
    assert message in capsys.readouterr().err
    assert answers.read_text().count("\n") == len(ANSWERS)
