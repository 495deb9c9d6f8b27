"""`main_eval judge` from its arguments to its files, against a judge on 127.0.0.1."""

import json
import logging
import os
import signal
import sys
import traceback

import pytest
from judge_cases import Case
from judge_server import KEY, JudgeServer

from recipe.mer_r1 import main_eval
from recipe.mer_r1.eval.judge import client
from recipe.mer_r1.eval.judge.endpoint import check_endpoint
from recipe.mer_r1.eval.judge.files import read_judged
from recipe.mer_r1.eval.judge.results import Results

ITEMS = [
    ("ER-Lab", ["happy"], "[scores 1/1 1/1 1/1] smiles. laughs. happy"),  # Rec 1, Rea 1
    ("ER-Lab", ["sad"], "[scores 1/1 0/1 0/1] smiles. laughs. happy"),  # Rec 0, Rea ½
    ("ER-Lab", ["sad"], "[scores 1/1] smiles. sad"),  # one score for two steps: unparseable
    ("ML-ER", ["sad", "angry", "tense"], "[scores 0/1 2/3] smiles. sad, angry"),  # Rec ⅔, Rea 0
    ("SA", ["positive"], "positive"),  # Rec 1, Rea 0: one step
    ("IR", ["comfort"], "garbage please"),  # unparseable steps
]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    policy = client.Policy(attempts=2, first_wait_s=0.01, longest_wait_s=0.02, timeout_s=10, failures_in_a_row=4)
    monkeypatch.setattr(client, "POLICY", policy)
    server = JudgeServer()
    server.misbehave = lambda body, nth: "garbage" if mentions(body, "garbage please") else None
    yield server
    server.close()


@pytest.fixture
def case(tmp_path):
    return Case(tmp_path, ITEMS)


def mentions(body, text):
    return text in json.dumps(body["messages"])


def is_rating(body):
    return isinstance(body["messages"][-1]["content"], list)


def fails_with(code, arguments):
    with pytest.raises(SystemExit) as stopped:
        main_eval.main(arguments)
    assert stopped.value.code == code


def test_both_scores_are_those_computed_by_hand(server, case, capsys):
    main_eval.main(case.arguments(server.url, "--extractor-model", "splitter-1"))
    results = Results.model_validate(case.results())
    lab = results.tasks["ER-Lab"]
    assert (lab.n, lab.n_scored, lab.n_unparseable, lab.n_failed) == (3, 2, 1, 0)
    # Recognition (1 + 0)/2, reasoning (1 + ½)/2; with the unparseable one as 0, a third each.
    assert lab.official.model_dump() == {"n": 2, "recognition": 0.5, "reasoning": 0.75, "cot": 0.625}
    assert lab.strict.model_dump() == pytest.approx({"n": 3, "recognition": 1 / 3, "reasoning": 0.5, "cot": 5 / 12})
    # Over all: recognition 1 + 0 + ⅔ + 1, reasoning 1 + ½ + 0 + 0, by 4 and by 6.
    whole = results.overall
    assert (whole.n, whole.n_unparseable) == (6, 2)
    assert whole.official.cot == pytest.approx((8 / 3 + 3 / 2) / 4 / 2)
    assert whole.strict.cot == pytest.approx((8 / 3 + 3 / 2) / 6 / 2)
    assert results.tasks["IR"].official is None
    assert results.tasks["IR"].strict.cot == 0
    assert results.served_models == {"served-1": 11}
    assert (results.judge_model, results.extractor_model) == ("judge-1", "splitter-1")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["ER-Lab", "ER-Wild", "FG-ER", "FG-SA", "ML-ER", "Noise-ER", "IR", "SA", "Rec.", "Rea.", "CoT"]
    assert lines[1] == ["official", "62.5", "-", "-", "-", "33.3", "-", "-", "50.0", "66.7", "37.5", "52.1"]
    assert lines[2] == ["strict", "41.7", "-", "-", "-", "33.3", "-", "0.0", "50.0", "44.4", "25.0", "34.7"]
    assert lines[4] == ["unparseable", "1", "0", "0", "0", "0", "0", "1", "0", "2"]


def test_without_out_the_files_lie_where_report_looks(server, case):
    arguments = case.arguments(server.url, "--limit", "1")
    place = arguments.index("--out")
    main_eval.main(arguments[:place] + arguments[place + 2 :])
    assert read_judged(case.folder / "slow.jsonl").overall.n == 1
    assert not case.out.exists()


def test_the_judge_sees_frames_clue_labels_and_steps(server, case):
    main_eval.main(case.arguments(server.url, "--limit", "4"))
    body = next(body for body in server.requests if is_rating(body) and mentions(body, "angry, tense"))
    assert body["model"] == "judge-1"
    *images, text = body["messages"][-1]["content"]
    assert 2 <= len(images) <= 4  # three seconds at 1 fps, an even number
    assert all(image["image_url"]["url"].startswith("data:image/jpeg;base64,/9j/") for image in images)
    assert "Voice 3 is loud." in text["text"]
    assert "True label: sad, angry, tense" in text["text"]
    assert "K = 3" in body["messages"][0]["content"]
    assert case.results()["limit"] == 4


def test_a_second_run_asks_nothing_and_says_the_same(server, case):
    main_eval.main(case.arguments(server.url))
    asked, results, verdicts = len(server.requests), case.results(), case.verdicts()
    assert asked == 11  # 6 splits, 5 ratings
    main_eval.main(case.arguments(server.url))
    assert len(server.requests) == asked
    assert (case.results(), case.verdicts()) == (results, verdicts)


def test_an_answer_without_reply_is_counted_told_and_asked_for_again(server, case, capsys):
    server.misbehave = lambda body, nth: "half" if is_rating(body) and mentions(body, "positive") else None
    fails_with(1, case.arguments(server.url))
    assert case.results()["overall"]["n_failed"] == 1
    assert case.results()["tasks"]["SA"]["strict"] is None
    failed = case.verdicts()[4]
    assert failed["status"] == "failed"
    assert "was lost" in failed["reason"]
    assert failed["steps"] == ["positive"]
    assert "1 answers could not be judged" in capsys.readouterr().err
    asked = len(server.requests)
    server.misbehave = lambda body, nth: None
    main_eval.main(case.arguments(server.url))
    assert case.results()["overall"]["n_failed"] == 0
    assert [is_rating(body) for body in server.requests[asked:]] == [True]


def test_a_reply_that_was_cut_is_unparseable_and_not_asked_for_again(server, case):
    server.misbehave = lambda body, nth: "cut" if is_rating(body) else None
    for _ in range(2):
        main_eval.main(case.arguments(server.url, "--limit", "1"))
        assert case.verdicts()[0]["status"] == "unparseable"
        assert "ended with 'length'" in case.verdicts()[0]["reason"]
    assert len(server.requests) == 2


def test_without_the_package_it_says_what_to_install(server, case, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "openai", None)
    fails_with(2, case.arguments(server.url))
    assert "pip install -e '.[eval]'" in capsys.readouterr().err


def test_a_damaged_clip_is_a_failure_with_its_reason(server, case):
    (case.folder / "clip.mp4").write_bytes(b"no clip")
    fails_with(1, case.arguments(server.url, "--limit", "2"))
    assert [verdict["status"] for verdict in case.verdicts()] == ["failed", "failed"]
    assert "clip.mp4" in case.verdicts()[0]["reason"]


def test_a_clip_without_a_response_is_worth_nothing_and_asks_nobody(server, case):
    path = case.folder / "slow.jsonl"
    lines = [json.loads(line) | {"response": "", "failed": "no such file"} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    main_eval.main(case.arguments(server.url))
    whole = Results.model_validate(case.results()).overall
    assert (whole.n, whole.n_scored, whole.official.cot, whole.strict.cot) == (6, 6, 0.0, 0.0)
    assert {verdict["reason"] for verdict in case.verdicts()} == {"no response: no such file"}
    assert server.requests == []


def test_no_more_answers_at_a_time_than_asked_for(server, case):
    server.delay_s = 0.2
    main_eval.main(case.arguments(server.url, "--concurrency", "2", "--limit", "4"))
    assert server.peak == 2


@pytest.fixture
def ctrl_c():
    """Python's own answer to SIGINT, which a shell's background job ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_interrupted_it_keeps_what_it_has(server, case, capsys):
    def interrupt(body, nth):
        if len(server.requests) == 4:
            os.kill(os.getpid(), signal.SIGINT)
            return "hang"
        return None

    server.misbehave = interrupt
    fails_with(130, case.arguments(server.url, "--concurrency", "1"))
    assert "interrupted" in capsys.readouterr().err
    assert not (case.out / "results.json").exists()
    server.misbehave = lambda body, nth: None
    main_eval.main(case.arguments(server.url))
    assert len(server.requests) == 4 + 12 - 3  # the fourth was not answered


@pytest.mark.parametrize(("fault", "code"), [("refused", 2), ("broken", 2), ("echo", 0), ("wrong_shape", 2)])
def test_the_key_is_nowhere(server, case, capsys, caplog, fault, code):
    caplog.set_level(logging.DEBUG)
    server.misbehave = lambda body, nth: fault
    ended, trace = 0, ""
    try:
        main_eval.main(case.arguments(server.url))
    except SystemExit as stopped:
        ended, trace = stopped.code, "".join(traceback.format_exception(stopped))
    assert ended == code
    shown = capsys.readouterr()
    files = [path.read_text() for path in case.out.rglob("*") if path.is_file()]
    assert files
    for text in (shown.out, shown.err, caplog.text, trace, *files):
        assert KEY not in text
    assert server.authorizations[0] == f"Bearer {KEY}"


def test_the_key_may_come_from_another_variable(server, case, monkeypatch, capsys):
    monkeypatch.setenv("OTHER_KEY", "local")
    main_eval.main(case.arguments(server.url, "--key-env", "OTHER_KEY", "--limit", "1"))
    assert server.authorizations[0] == "Bearer local"
    fails_with(2, case.arguments(server.url, "--key-env", "NOT_SET_AT_ALL"))
    assert "NOT_SET_AT_ALL is not set" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["host/v1", "ftp://h", "http://me:word@h/v1", "http://h/v1?key=word", "http://"])
def test_an_endpoint_with_a_secret_in_it_is_refused_unshown(url):
    with pytest.raises(ValueError, match="--endpoint") as error:
        check_endpoint(url)
    assert "word@" not in str(error.value)
    assert "key=word" not in str(error.value)
