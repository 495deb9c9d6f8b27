"""Asking over real sockets: faults of the endpoint, waiting, limits, and what the cache knows."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest
from judge_server import KEY, JudgeServer

from recipe.mer_r1.eval.judge.cache import ReplyCache, Request
from recipe.mer_r1.eval.judge.client import AskError, Client, Policy, StopError, retry_after
from recipe.mer_r1.eval.judge.limiter import Limiter
from recipe.mer_r1.eval.judge.prompts import extraction, prompt_hash, rating
from recipe.mer_r1.files.errors import InputError

FAST = Policy(attempts=3, first_wait_s=0.02, longest_wait_s=0.05, longest_hold_s=2.0, timeout_s=20.0)
IMPATIENT = replace(FAST, timeout_s=1.0)  # where a reply never comes; elsewhere a busy machine must not be taken for it


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = JudgeServer()
    yield server
    server.close()


@pytest.fixture
def ask(server, tmp_path):
    """Ask for some responses' steps at once; replies, or the errors in their place."""

    def run(*responses, per_minute=None, policy=FAST):
        async def all_of_them(cache):
            client = Client(server.url, KEY, cache, Limiter(per_minute), policy)
            requests = [Request(server.url, "m", extraction(response)) for response in responses]
            try:
                return await asyncio.gather(*map(client.ask, requests), return_exceptions=True)
            finally:
                await client.close()

        with ReplyCache(tmp_path / "replies.jsonl") as cache:
            return asyncio.run(all_of_them(cache))

    return run


def test_a_good_reply_is_kept_and_never_asked_for_again(server, ask):
    (first,) = ask("calm. happy")
    assert (first.text, first.finish, first.served) == (
        "<step>\nStep 1: calm\nStep 2: happy\n</step>",
        "stop",
        "served-1",
    )
    assert ask("calm. happy") == [first]
    assert len(server.requests) == 1
    assert server.requests[0]["temperature"] == 0
    assert "seed" not in server.requests[0]
    assert server.authorizations == [f"Bearer {KEY}"]


def test_equal_requests_at_once_are_one(server, ask):
    server.delay_s = 0.05
    assert len({reply.text for reply in ask("happy", "happy", "happy")}) == 1
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", ["half", "not_json", "wrong_shape", "broken", "busy", "hang"])
def test_a_fault_that_passes_costs_one_more_request(server, ask, fault):
    server.retry_after = "0.05"
    server.misbehave = lambda body, nth: fault if nth == 1 else None
    (reply,) = ask("happy", policy=IMPATIENT if fault == "hang" else FAST)
    assert reply.text.startswith("<step>")
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("half", "was lost"),
        ("not_json", "not a chat completion"),
        ("wrong_shape", "not a chat completion"),
        ("broken", "HTTP 500"),
        pytest.param("hang", "no reply within 1 s", marks=pytest.mark.slow),
    ],
)
def test_a_fault_that_stays_is_given_up_with_its_reason(server, ask, fault, reason):
    server.misbehave = lambda body, nth: fault
    (error,) = ask("happy", policy=IMPATIENT if fault == "hang" else FAST)
    assert type(error) is AskError
    assert reason in str(error)
    assert "failed 3 times" in str(error)
    assert KEY not in str(error)
    assert len(server.requests) == 3
    server.misbehave = lambda body, nth: None
    assert ask("happy")[0].text.startswith("<step>")  # failures are not kept


def test_a_request_that_is_refused_is_not_repeated(server, ask):
    server.misbehave = lambda body, nth: "bad_request"
    (error,) = ask("happy")
    assert str(error) == 'HTTP 400: {"error": {"message": "content filter"}}'
    assert len(server.requests) == 1


def test_a_wrong_key_stops_everything_and_is_not_shown(server, ask):
    server.misbehave = lambda body, nth: "refused"
    (error,) = ask("happy")
    assert type(error) is StopError
    assert "Incorrect API key provided: [key]" in str(error)
    assert error.__cause__ is None
    assert len(server.requests) == 1


def test_an_endpoint_that_is_down_stops_everything(server, ask):
    server.misbehave = lambda body, nth: "broken"
    policy = Policy(attempts=1, failures_in_a_row=3)
    errors = ask("a", "b", "c", policy=policy)
    assert sorted(type(error).__name__ for error in errors) == ["AskError", "AskError", "StopError"]


def test_retry_after_holds_for_everybody(server, ask):
    server.retry_after = "1"
    server.misbehave = lambda body, nth: "busy" if len(server.requests) == 1 else None

    # The second request's turn comes while the endpoint asks for a pause.
    first, second = ask("a", "b", per_minute=60 / 0.3)
    assert first.text.startswith("<step>")
    assert second.text.startswith("<step>")
    assert server.times[1] - server.times[0] >= 0.99


def test_too_long_a_pause_is_not_waited_for(server, ask):
    server.retry_after = "3600"
    server.misbehave = lambda body, nth: "busy"
    start = time.monotonic()
    (error,) = ask("happy")
    assert "asks to wait 3600 s" in str(error)
    assert time.monotonic() - start < 2


def test_requests_start_no_faster_than_allowed(server, ask):
    ask(*"abcdef", per_minute=60 / 0.08)
    assert len(server.times) == 6
    # From the second on: the first arrives late, as the connection is made. A gap less, as arrivals jitter.
    assert server.times[-1] - server.times[1] >= 3 * 0.08


def test_turns_are_evenly_spaced_and_a_hold_moves_them():
    async def turns():
        limiter = Limiter(60 / 0.03)
        times = []

        async def one():
            await limiter.turn()
            times.append(time.monotonic())

        await asyncio.gather(*(one() for _ in range(4)))
        limiter.hold(0.2)
        held = time.monotonic()
        await one()
        return times, held

    times, held = asyncio.run(turns())
    assert all(after - before >= 0.029 for before, after in pairwise(times[:4]))
    assert times[4] - held >= 0.199


def test_retry_after_is_a_number_or_a_date():
    assert retry_after("2.5") == 2.5
    assert retry_after("-1") == 0
    assert retry_after(None) is retry_after("soon") is retry_after("nan") is None
    assert 50 < retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)) <= 60


@pytest.mark.parametrize("attempt", range(1, 9))
def test_waits_grow_and_are_bounded(attempt):
    policy = Policy(first_wait_s=1, longest_wait_s=20)
    whole = min(20, 2 ** (attempt - 1))
    assert whole / 2 <= policy.backoff(attempt) <= whole


def test_everything_that_decides_a_reply_is_in_its_key():
    messages = rating(["happy"], ["happy"], "loud", ["data:a"], multi=False)
    base = {"endpoint": "e", "model": "m", "messages": messages, "temperature": 0.0, "seed": None}
    others = [
        {"endpoint": "f"},
        {"model": "n"},
        {"temperature": 0.5},
        {"seed": 1},
        {"messages": rating(["sad"], ["happy"], "loud", ["data:a"], multi=False)},
        {"messages": rating(["happy"], ["happy"], "loud", ["data:b"], multi=False)},
        {"messages": rating(["happy"], ["happy"], "loud", ["data:a"], multi=True)},
    ]
    keys = {Request(**base).key, *(Request(**{**base, **other}).key for other in others)}
    assert len(keys) == 1 + len(others)


def test_a_seed_is_sent_where_it_was_chosen():
    assert Request("e", "m", [], seed=3).body() == {"model": "m", "messages": [], "temperature": 0.0, "seed": 3}


def test_other_wording_is_another_key():
    request = Request("e", "m", extraction("x"))
    assert request.prompt == prompt_hash()
    assert Request("e", "m", extraction("x"), prompt="other").key != request.key


def test_a_line_that_a_kill_cut_is_dropped_and_a_damaged_one_is_told(server, ask, tmp_path):
    ask("a", "b")
    file = tmp_path / "replies.jsonl"
    file.write_bytes(file.read_bytes()[:-9])
    ask("a", "b")
    assert len(server.requests) == 3
    assert file.read_bytes().count(b"\n") == 2
    file.write_bytes(b"{}\n" + file.read_bytes())
    with pytest.raises(InputError, match="line 1"):
        ask("a")


def test_one_judge_at_a_time(tmp_path):
    with (
        ReplyCache(tmp_path / "r") as _,
        pytest.raises(InputError, match="another process"),
        ReplyCache(tmp_path / "r"),
    ):
        pass
