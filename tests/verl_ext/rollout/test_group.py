"""A prompt's responses in one message: TransferQueue and the reward worker get the same as in verl's own way."""

import logging
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from group_cases import Bench, Queue
from omni_cases import messages
from verl.experimental.agent_loop.agent_loop import _agent_loop_registry
from verl.workers.rollout.llm_server import FullyAsyncLLMServerClient

FAST = "<think></think><answer>"
TEXT = [{"role": "user", "content": "What does the person feel?"}]


@pytest.fixture
def bench(processor, monkeypatch):
    """A function that makes a :class:`Bench`."""
    from verl_ext.rollout.agent_loop import OmniAgentLoop

    monkeypatch.setattr(OmniAgentLoop, "_encoder", None)

    return partial(Bench, processor)


def prompt(row, uid="u7", audio_in_video=False, **more):
    """A prompt as verl's trainer hands it to a worker."""
    return {
        "raw_prompt": messages(row, audio_in_video),
        "data_source": "micro/slow",
        "reward_model": row["reward_model"],
        "extra_info": row["extra_info"],
        "index": row["extra_info"]["index"],
        "dummy_tensor": torch.tensor([0], dtype=torch.uint8),
        "response_prefix": "",
        "uid": uid,
        "global_steps": 3,
        "agent_name": "omni_agent",
        **more,
    }


def assert_same(ours, theirs, where=""):
    """Equal in type, shape and value, all the way down."""
    assert type(ours) is type(theirs), where
    if isinstance(ours, dict):
        assert set(ours) == set(theirs), where
        for name in ours:
            assert_same(ours[name], theirs[name], f"{where}/{name}")
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), where
        for place, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_same(*pair, f"{where}/{place}")
    elif isinstance(ours, torch.Tensor):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), where
        assert torch.equal(ours, theirs), where
    elif isinstance(ours, np.ndarray):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), where
        assert_same(ours.tolist(), theirs.tolist(), where)
    else:
        assert ours == theirs, where


def without_times(queue: Queue, timed):
    """The stored rows, seconds taken out of their metrics."""
    for _, _, fields in queue.stored.values():
        for name in timed:
            seconds = fields["metrics"].pop(name)
            assert isinstance(seconds, float)
            assert 0 <= seconds < 60
    return queue.stored


CASES = {
    "slow": {},
    "fast": {"row": {"response_prefix": FAST}},
    "text": {"row": {"raw_prompt": TEXT}},
    "audio in video": {"settings": {"audio_in_video": True}},
    "validation": {"run": {"validate": True, "temperature": 0.0}, "responses": 2},
    "sampled validation": {"run": {"validate": True}, "row": {"__do_sample__": False}, "responses": 2},
    "another number": {"row": {"__rollout_n__": 5}, "responses": 5},
    "one response": {"settings": {"rollout": {"n": 1}}, "responses": 1},
    "greedy": {"row": {"__do_sample__": False}},
    "without seeds": {"settings": {"seeded_responses": False}},
    "without log-probs": {"run": {"logprobs": False}},
    "no reward worker": {"settings": {"rewards": False}},
    "priority": {"row": {"priority": 3}},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_group_is_stored_as_verl_stores_each_response(case, bench, rows):
    settings, number = case.get("settings", {}), case.get("responses", 3)
    asked = prompt(rows[0], audio_in_video=settings.get("audio_in_video", False), **case.get("row", {}))
    ours, theirs = bench(**settings), bench(**settings)
    ours.run(asked, **case.get("run", {}))
    theirs.run(asked, grouped=False, **case.get("run", {}))

    assert ours.queue.status == theirs.queue.status
    assert [status for _, status in ours.queue.status["u7"]] == ["running", "finished"]
    assert set(theirs.queue.stored) == {f"u7_{session}_0" for session in range(number)}
    timed = ["generate_sequences"] + ["compute_score"] * settings.get("rewards", True)
    assert_same(without_times(ours.queue, timed), without_times(theirs.queue, timed))
    assert_same(ours.reward.seen, theirs.reward.seen)
    assert len(theirs.reward.seen) == number * settings.get("rewards", True)
    assert_same(ours.balancer.asked * number, theirs.balancer.asked)


def test_a_group_is_one_message_to_each(bench, rows):
    ours, theirs = bench(), bench()
    ours.run(prompt(rows[0]), prompt(rows[1], "u8"))
    theirs.run(prompt(rows[0]), prompt(rows[1], "u8"), grouped=False)
    assert ours.to_server.calls == ["generate_group"] * 2
    assert theirs.to_server.calls == ["generate"] * 6
    assert ours.to_reward.calls == ["compute_score_batch"] * 2
    assert theirs.to_reward.calls == ["compute_score"] * 6
    assert (ours.queue.puts, theirs.queue.puts) == (2, 6)
    assert len(ours.balancer.asked) == 2
    assert ours.balancer.busy == 0


def test_the_cases_have_responses_of_unequal_length_with_seeds_of_their_own(bench, rows):
    """So that padding and order can go wrong; those over the limit of 8 are cut."""
    stored = bench().run(prompt(rows[0], __rollout_n__=8)).stored
    lengths = [fields["responses"].shape[0] for _, _, fields in stored.values()]
    assert len(set(lengths)) > 2
    assert max(lengths) == 8
    assert len({tuple(fields["responses"].tolist()) for _, _, fields in stored.values()}) == 8
    for key, (partition, tag, fields) in stored.items():
        assert partition == "train"
        assert tag["response_len"] == len(fields["responses"]) == len(fields["rollout_log_probs"])
        assert tag["seq_len"] == len(fields["input_ids"]) == fields["position_ids"].shape[1]
        assert (tag["min_global_steps"], tag["max_global_steps"]) == (3, 3)
        assert fields["rm_scores"][-1] == fields["responses"].sum(), key
        assert fields["session_id"] == int(key.split("_")[1])


@pytest.mark.parametrize("kind", ["slow", "fast", "text", "interleaved"])
def test_positions_are_those_of_the_complete_sequence(kind, bench, rows):
    made = bench(audio_in_video=kind == "interleaved")
    more = {"fast": {"response_prefix": FAST}, "text": {"raw_prompt": TEXT}}.get(kind, {})
    stored = made.run(prompt(rows[0], audio_in_video=kind == "interleaved", **more)).stored
    for _, _, fields in stored.values():
        ids = fields["input_ids"][None]
        whole = made.worker._compute_position_ids(ids, torch.ones_like(ids), dict(fields["multi_modal_inputs"]))[0]
        assert whole.shape == (4, ids.shape[1])
        assert torch.equal(fields["position_ids"], whole)
        if kind == "text":
            assert torch.equal(whole, torch.arange(ids.shape[1]).expand(4, -1))
        else:
            assert whole[1, -1] != whole[0, -1], "a clip's positions are not the numbers of its tokens"


def test_positions_behind_media_continue_from_the_largest_channel(bench, monkeypatch):
    """As M-RoPE does where no text stands between; the first channel counts tokens. By hand."""
    worker = bench().worker
    prompt = torch.tensor([[0, 1, 2, 3], [0, 1, 1, 1], [0, 1, 1, 5], [0, 1, 4, 3]])
    monkeypatch.setattr(worker, "_compute_position_ids", lambda *_: prompt[None])
    output = SimpleNamespace(prompt_ids=[5, 6, 6, 6], response_ids=[8, 9], multi_modal_data={"actor_inputs": {}})
    (positions,) = worker._group_positions([output])
    assert torch.equal(positions[:, :4], prompt)
    assert positions[:, 4:].tolist() == [[4, 5], [6, 7], [6, 7], [6, 7]]


def test_positions_without_m_rope_count_the_tokens(bench):
    worker = bench().worker
    worker.processor = None
    outputs = [SimpleNamespace(prompt_ids=[5, 6, 7], response_ids=ids, multi_modal_data=None) for ids in ([8], [8, 9])]
    assert [one.tolist() for one in worker._group_positions(outputs)] == [[0, 1, 2, 3], [0, 1, 2, 3, 4]]


def failure(caplog):
    """(message, text of the exception) of the one error in the log."""
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    return record.getMessage(), repr(record.exc_info[1])


def test_a_clip_that_cannot_be_decoded_fails_its_own_group_by_name(bench, rows, caplog):
    made = bench()
    broken = {**rows[0], "videos": ["/nowhere.mp4"]}
    made.run(prompt(broken, "bad"), prompt(rows[1], "good"))
    assert made.queue.status == {
        "bad": [("train", "running"), ("train", "failure")],
        "good": [("train", "running"), ("train", "finished")],
    }
    assert set(made.queue.stored) == {f"good_{session}_0" for session in range(3)}
    message, error = failure(caplog)
    assert message == "Error in _run_prompt for uid=bad"
    assert "/nowhere.mp4" in error


def test_a_greedy_prompt_leaves_its_neighbour_sampled(bench, rows):
    """verl hands one set of sampling parameters to all prompts of a batch."""
    ours, theirs = bench(), bench()
    prompts = prompt(rows[0], "greedy", __do_sample__=False), prompt(rows[1], "sampled")
    ours.run(*prompts)
    theirs.run(*prompts, grouped=False)
    timed = ["generate_sequences", "compute_score"]
    assert_same(without_times(ours.queue, timed), without_times(theirs.queue, timed))
    answers = {key: fields["responses"].tolist() for key, (_, _, fields) in ours.queue.stored.items()}
    assert answers["greedy_0_0"] == answers["greedy_1_0"]
    assert answers["sampled_0_0"] != answers["sampled_1_0"]


@pytest.mark.parametrize("where", ["server", "reward", "prompt"])
def test_other_errors_fail_their_own_group_too(where, bench, rows, caplog):
    made = bench()
    more = {}
    if where == "server":
        made.server.fail_at = 2
        expected = "the made server is broken"
    elif where == "reward":
        made.reward.broken = True
        expected = "the made reward is broken"
    else:
        more = {"raw_prompt": [{"role": "user", "content": "word " * 300}]}
        expected = f"clip {rows[0]['extra_info']['name']!r}: the prompt has"
    made.run(prompt(rows[0], "bad", validate=True, **more), validate=True)
    assert made.queue.status["bad"] == [("val", "running"), ("val", "failure")]
    assert not made.queue.stored
    message, error = failure(caplog)
    assert message == "Error in _run_prompt for uid=bad"
    assert expected in error
    assert made.balancer.busy == 0, "the server is released"
    made.server.fail_at, made.reward.broken = None, False
    made.run(prompt(rows[1], "next"), validate=True)
    assert made.queue.status["next"][-1] == ("val", "finished")


def test_verls_own_way_remains_for_all_that_a_group_does_not_know(bench, monkeypatch):
    from verl.utils.rollout_trace import RolloutTraceConfig

    made = bench()
    worker = made.worker
    assert worker._takes_groups("omni_agent")
    assert not worker._takes_groups("single_turn_agent")
    assert not worker._takes_groups("no_such_agent")
    monkeypatch.setitem(_agent_loop_registry, "mine", {"_target_": "my.own.Loop"})
    assert not worker._takes_groups("mine")
    with monkeypatch.context() as patch:
        patch.setattr(worker, "llm_client", FullyAsyncLLMServerClient(made.config))
        assert not worker._takes_groups("omni_agent")
    with monkeypatch.context() as patch:
        patch.setattr(worker, "distillation_enabled", True)
        assert not worker._takes_groups("omni_agent")
    with monkeypatch.context() as patch:
        patch.setattr(RolloutTraceConfig, "get_backend", classmethod(lambda cls: "mlflow"))
        assert not worker._takes_groups("omni_agent")
    assert not bench(rollout={"name": "sglang"}).worker._takes_groups("omni_agent")
    assert not bench(rollout={"disaggregation": {"enabled": True}}).worker._takes_groups("omni_agent")


def test_an_unknown_agent_loop_fails_as_in_verl(bench, rows, caplog):
    """The error of a task that verl forgets: without a status, the trainer would wait without end."""
    made = bench()
    made.run(prompt(rows[0], agent_name="no_such_agent"))
    assert made.queue.status["u7"] == [("train", "running"), ("train", "failure")]
    assert "Agent loop no_such_agent not registered" in caplog.text


def test_verls_way_is_taken_where_a_group_is_not(bench, rows):
    made = bench(rollout={"disaggregation": {"enabled": True}})
    made.run(prompt(rows[0]))
    assert made.to_server.calls == ["generate"] * 3
    assert len(made.queue.stored) == 3
