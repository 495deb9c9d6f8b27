"""verl's engine with one forward a group against plain forwards: log-probs, set log-probs and every gradient."""

import json

import pytest
import torch
from omni_cases import grouped_samples
from ranks import run_ranks

pytestmark = pytest.mark.seam

LIMIT = 1e-5  # nats; of the largest gradient
LORA = {"lora_rank": 4, "lora_alpha": 8, "target_modules": r".*thinker\.model\.layers\.\d+\.self_attn\.[qv]_proj"}


@pytest.fixture(scope="module")
def cases(processor, rows, tmp_path_factory):
    """The file of the samples."""
    file = tmp_path_factory.mktemp("shared_prompt") / "cases.pt"
    torch.save(grouped_samples(processor, rows), file)
    return file


WAYS = {
    1: {
        "all at once": {"micro_batch_size": 8},
        "micro-batches that cut groups": {"micro_batch_size": 2},
        "LoRA": {"micro_batch_size": 8, "engine": LORA},
        "tokens: complete groups": {"micro_batch_size": 2, "tokens": 310},
        "tokens: parts of groups": {"micro_batch_size": 8, "tokens": 150},
        "tokens: less than a prompt": {"micro_batch_size": 8, "tokens": 1},
    },
    2: {
        "all at once": {"micro_batch_size": 4},
        "one by one": {"micro_batch_size": 1},
        "LoRA": {"micro_batch_size": 2, "engine": LORA},
        "logits in chunks": {"micro_batch_size": 4, "chunk": 613 * 9},  # more chunks on one rank than on the other
        "no checkpointing": {"micro_batch_size": 4, "engine": {"enable_gradient_checkpointing": False}},
        "tokens: complete groups": {"micro_batch_size": 2, "tokens": 270},
        "tokens: parts of groups": {"micro_batch_size": 1, "tokens": 140},
        "tokens: LoRA": {"micro_batch_size": 4, "tokens": 270, "engine": LORA},
    },
}
# (rows, longest row) of each forward, by rank: of the log-prob pass, which has branches, then of the update. Tokens of
# prompts, responses and branches: a 111 + (4, 10, 19) + (9, 7, 4); t 117 + 7 + 8; b 111 + (13, 16) + (6, 5);
# p 15 + (1, 1) + (3, 2).
FORWARDS = {
    (1, "tokens: complete groups"): [[(2, 151), (1, 164), (1, 22), (2, 144), (2, 124)]],
    (1, "tokens: parts of groups"): [
        [(1, 141), (1, 134), (1, 132), (1, 132), (1, 130), (1, 22), (1, 144), (1, 140), (1, 124), (1, 17)]
    ],
    (2, "tokens: complete groups"): [
        [(2, 132), (1, 141), (2, 125), (1, 124)],
        [(2, 134), (1, 22), (2, 130), (1, 17)],
    ],
    # In the log-prob pass the second rank needs three forwards and makes four, as the first.
    (2, "tokens: parts of groups"): [
        [(1, 132), (1, 130), (1, 128), (1, 124), (1, 125), (1, 124), (1, 124)],
        [(1, 134), (1, 132), (1, 19), (1, 18), (1, 130), (1, 127), (1, 17)],
    ],
}
# The update after a pass that may keep its forwards.
KEPT = ("kept", "kept, too many", "kept, other clips")
FAULTS = (
    "causal mask",
    "2-D mask",
    "no mask",
    "2-D positions",
    "positions run on",
    "eager attention",
    "the next row",
    "media of another prompt",
)
CASES = [(ranks, name) for ranks, ways in WAYS.items() for name in ways]


@pytest.fixture(scope="module")
def runs(cases, tiny_model, tmp_path_factory):
    """Number of ranks -> (one dict a rank: name of the run -> what it gave; one log a rank)."""
    found = {}
    for ranks, ways in WAYS.items():
        out = tmp_path_factory.mktemp("ranks")
        planted = {fault: {"micro_batch_size": 4, "fault": fault} for fault in FAULTS} if ranks == 2 else {}
        if ranks == 2:
            planted[f"{FAULTS[0]}, by tokens"] = {"micro_batch_size": 4, "tokens": 270, "fault": FAULTS[0]}
        logs = run_ranks("shared_prompt_rank.py", ranks, (tiny_model, cases, out, json.dumps(ways | planted)))
        found[ranks] = [torch.load(out / f"rank{rank}.pt", weights_only=False) for rank in range(ranks)], logs
    return found


@pytest.fixture(scope="module")
def samples(cases):
    return torch.load(cases, weights_only=False)["samples"]


def gaps(results, samples, way):
    """(largest gap of log-probs, entropies and set log-probs; largest gap of a gradient as a part of its norm)."""
    values, gradients = [], []
    for rank, result in enumerate(results):
        own = samples[len(samples) * rank // len(results) : len(samples) * (rank + 1) // len(results)]
        for name in ("log_probs", "entropy", "set_log_probs", "branch_set_log_probs"):
            for one, two, sample in zip(result[way][name], result["plain"][name], own, strict=True):
                read = slice(-len(sample["responses"]) - 1, -1) if name in ("log_probs", "entropy") else slice(None)
                values.append((one - two)[read].abs().max())
        packed, plain = result[way]["gradients"], result["plain"]["gradients"]
        assert packed.keys() == plain.keys()
        norm = torch.stack([expected.norm() for expected in plain.values()]).norm()
        for name, expected in plain.items():
            # A bias of keys has no gradient but rounding, so that it is compared with the whole gradient.
            gradients.append((packed[name] - expected).norm() / max(expected.norm(), 1e-3 * norm))
    return torch.stack(values).max().item(), torch.stack(gradients).max().item()


@pytest.mark.parametrize(("ranks", "name"), CASES)
def test_outputs_and_gradients_are_those_of_plain_forwards(ranks, name, runs, samples):
    results = [result[name] for result in runs[ranks][0]]
    by_tokens = "plain, by tokens" in results[0]
    for way in ("packed", "packed again", *(("plain, by tokens", *KEPT) if by_tokens else ())):
        values, gradients = gaps(results, samples, way)
        print(f"{ranks} ranks, {name}, {way}: max |Δ| {values:.1e}, of gradients {gradients:.1e}")
        assert values <= LIMIT
        assert gradients <= LIMIT
        for result in results if by_tokens else ():  # verl's own loss: the sum over micro-batches is the batch's
            assert sum(result[way]["losses"]) == pytest.approx(sum(result["plain"]["losses"]), rel=1e-5)
            assert result[way]["metrics"] == pytest.approx(result["plain"]["metrics"], rel=1e-5)
            assert set(result[way]["metrics"]) == {"actor/pg_loss", "actor/entropy_loss", "kl_loss"}
    assert not any(result["differs"] for result in results)
    trained = results[0]["plain"]["gradients"]
    assert len(trained) > 10
    assert sum(gradient.abs().max() > 1e-3 for gradient in trained.values()) > 0.8 * len(trained)


def test_prompts_and_media_are_read_once(runs, samples):
    """Of 8 samples with 4 prompts, of which 3 have a video."""
    result = runs[1][0][0]["all at once"]
    prompts = {sample["uid"]: len(sample["input_ids"]) - len(sample["responses"]) for sample in samples}
    continuations = {
        uid: sum(len(sample["responses"]) for sample in samples if sample["uid"] == uid) for uid in prompts
    }
    branches = {uid: sum(len(sample["branch_ids"]) for sample in samples if sample["uid"] == uid) for uid in prompts}
    with_branches = max(prompts[uid] + continuations[uid] + branches[uid] for uid in prompts)
    without = max(prompts[uid] + continuations[uid] for uid in prompts)
    assert result["packed again"]["forwards"] == [(4, with_branches), (4, without)]
    assert result["packed again"]["videos"] == 2 * 3
    assert result["plain"]["videos"] == 3 * 6
    assert len(result["plain"]["forwards"]) == 3


def test_each_kind_of_batch_is_compared_once_on_every_rank(runs):
    for ranks, (results, logs) in runs.items():
        for result in results:
            kinds = {name: result[name]["compared"] for name in WAYS[ranks]}
            # One by one, the update has nothing to share.
            alone = ("one by one", "tokens: less than a prompt")
            assert kinds == {name: {True} if name in alone else {False, True} for name in kinds}
        for log in logs:
            assert log.count("and set log-probs of one forward for all continuations of a prompt") >= len(WAYS[ranks])


@pytest.mark.parametrize(("ranks", "name"), FORWARDS)
def test_micro_batches_hold_complete_groups_within_the_limit(ranks, name, runs):
    for result, expected in zip(runs[ranks][0], FORWARDS[ranks, name], strict=True):
        assert result[name]["packed again"]["forwards"] == expected


@pytest.mark.parametrize(("ranks", "name"), [case for case in CASES if "tokens" in WAYS[case[0]][case[1]]])
def test_an_update_makes_no_forward_where_that_of_the_pass_is_its_own(ranks, name, runs):
    for result in (result[name] for result in runs[ranks][0]):
        forwards = result["packed again"]["forwards"]
        assert result["kept, too many"]["forwards"] == result["kept, other clips"]["forwards"] == forwards
        updates = len(result["packed again"]["losses"])
        assert result["kept"]["forwards"] == forwards[:-updates]
        assert len(result["kept"]["losses"]) == len(result["kept"]["forwards"]) > 1


def test_after_a_fault_micro_batches_are_within_the_limit_as_plain_rows(runs):
    fault = f"{FAULTS[0]}, by tokens"
    for result in (result[fault] for result in runs[2][0]):
        assert result["differs"]
        compared, later = result["packed"]["forwards"][:3], result["packed"]["forwards"][3:]
        assert compared[0][1] > compared[1][1]  # one forward, then the plain ones of responses and of branches
        assert all(rows * length <= 270 for rows, length in later)
        assert later == result["plain, by tokens"]["forwards"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_silent_fault_turns_the_run_to_plain_forwards_on_every_rank(fault, runs, samples):
    results = [result[fault] for result in runs[2][0]]
    assert all(result["differs"] for result in results), "not noticed"
    values, gradients = gaps(results, samples, "packed")
    assert values <= LIMIT
    assert gradients <= LIMIT
    for result in results:
        assert result["packed"]["forwards"][-3:] == result["plain"]["forwards"]
