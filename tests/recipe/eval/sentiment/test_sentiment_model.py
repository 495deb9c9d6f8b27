"""`main_eval sentiment` by a language model, against one on 127.0.0.1."""

import json

import judge_server
import pytest
from judge_server import KEY, JudgeServer
from test_sentiment import exits_with, read_lines, write_answers

from recipe.mer_r1 import main_eval
from recipe.mer_r1.eval.judge import client
from recipe.mer_r1.eval.sentiment.model import REMINDERS, read_reply
from recipe.mer_r1.eval.sentiment.prompts import WORDINGS, question, wording_hash

REPLIES = {"happy": "positive", "sad": '"Negative."', "torn": "Mixed", "odd": "It depends.", "shy": "Clearly sad!"}
ANSWERS = {"one": ["happy"], "two": ["sad", "tense"], "three": ["torn"], "four": ["odd"], "five": ["shy"], "six": []}


def reply(body):
    """By the first word of the list; "shy" needs one reminder, "odd" heeds none."""
    first = body["messages"][0]["content"].split("Emotion words: ")[1].split(",")[0]
    return "negative" if first == "shy" and len(body["messages"]) > 1 else REPLIES[first]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(client, "POLICY", client.Policy(attempts=2, first_wait_s=0.01, failures_in_a_row=4))
    monkeypatch.setattr(judge_server, "good_reply", reply)
    server = JudgeServer()
    server.retry_after = "0.05"
    yield server
    server.close()


@pytest.fixture
def out(tmp_path):
    write_answers(tmp_path / "slow.jsonl", ANSWERS)
    return tmp_path / "x.jsonl"


def arguments(server, out, *more):
    files = ["--answers", out.with_name("slow.jsonl"), "--out", out]
    model = ["--mapper", "llm", "--endpoint", server.url, "--model", "m", *more]
    return [str(part) for part in ("sentiment", *files, *model)]


def meta(out):
    return json.loads(out.with_suffix(".meta.json").read_text())


@pytest.mark.parametrize(
    "text", ["negative", "Negative.", ' "NEGATIVE" ', "[negative]", "**negative**\n", "“negative”。"]
)
def test_case_quotes_and_punctuation_do_not_matter(text):
    assert read_reply(text) == "negative"


def test_replies_become_sentiments(server, out):
    main_eval.main(arguments(server, out))
    assert read_lines(out) == [
        {"name": "one", "words": ["happy"], "sentiment": "positive"},
        {"name": "two", "words": ["sad", "tense"], "sentiment": "negative"},
        {"name": "three", "words": ["torn"], "sentiment": "neutral", "raw": ["Mixed"]},
        {"name": "four", "words": ["odd"], "sentiment": "neutral", "raw": ["It depends."] * (1 + REMINDERS)},
        {"name": "five", "words": ["shy"], "sentiment": "negative", "raw": ["Clearly sad!", "negative"]},
        {"name": "six", "words": [], "sentiment": "neutral"},
    ]
    counts = {name: count for name, count in meta(out)["counts"].items() if count}
    statuses = {"n_mixed": 1, "n_unmapped": 1, "n_asked_again": 1, "n_empty": 1}
    assert counts == {"n": 6, "n_positive": 1, "n_negative": 2, "n_neutral": 3, **statuses}


def test_what_is_asked_is_recorded(server, out):
    main_eval.main(arguments(server, out, "--prompt", "benchmark", "--temperature", "0.7", "--seed", "5"))
    first = [body for body in server.requests if len(body["messages"]) == 1]
    assert {(body["model"], body["temperature"], body["seed"]) for body in first} == {("m", 0.7, 5)}
    assert question("benchmark", ["sad", "tense"]) in [body["messages"] for body in first]
    mapper = meta(out)["mapper"]
    asked = len(server.requests)
    assert mapper == {
        "name": "llm",
        "endpoint": server.url,
        "model": "m",
        "served_models": {"served-1": asked},
        "prompt": "benchmark",
        "prompt_sha256": wording_hash("benchmark"),
        "temperature": 0.7,
        "seed": 5,
    }


def test_nothing_is_asked_twice_but_other_settings_are(server, out):
    main_eval.main(arguments(server, out))
    asked, lines = len(server.requests), out.read_text()
    main_eval.main(arguments(server, out))
    assert (len(server.requests), out.read_text()) == (asked, lines)
    for more in (["--prompt", "benchmark"], ["--temperature", "1"], ["--seed", "1"]):
        before = len(server.requests)
        main_eval.main(arguments(server, out, *more))
        assert len(server.requests) == before + asked


def test_a_busy_endpoint_is_waited_for(server, out):
    server.misbehave = lambda body, nth: "busy" if nth == 1 else None
    main_eval.main(arguments(server, out))
    assert meta(out)["counts"]["n_failed"] == 0
    assert len(read_lines(out)) == 6


def test_what_had_no_reply_is_left_out_and_asked_for_again(server, out, capsys):
    server.misbehave = lambda body, nth: "bad_request" if "happy" in body["messages"][0]["content"] else None
    exits_with(1, arguments(server, out))
    assert "'one': HTTP 400" in capsys.readouterr().err
    assert [line["name"] for line in read_lines(out)] == ["two", "three", "four", "five", "six"]
    assert meta(out)["counts"]["n_failed"] == 1
    asked = len(server.requests)
    server.misbehave = lambda body, nth: None
    main_eval.main(arguments(server, out))
    assert len(server.requests) == asked + 1
    assert [line["name"] for line in read_lines(out)] == list(ANSWERS)


def test_a_refused_key_stops_the_run_and_is_nowhere(server, out, capsys):
    server.misbehave = lambda body, nth: "refused"
    exits_with(2, arguments(server, out))
    assert KEY not in capsys.readouterr().err
    assert not out.exists()


def test_wordings_offer_the_three_sentiments():
    assert all("[positive, negative, neutral]" in text for text in WORDINGS.values())
    assert len({wording_hash(wording) for wording in WORDINGS}) == len(WORDINGS)
