"""verl's engine with one forward a group against plain forwards: log-probs, set log-probs and every gradient."""

import json

import pytest
import torch
from omni_cases import encoder, messages
from ranks import run_ranks

pytestmark = pytest.mark.seam

LIMIT = 1e-5  # nats; of the largest gradient
# (prompt, kind) by sample, in the order of the batch: groups of three, of two and of one, the first two each on both
# of two ranks and not side by side; the last two are as verl's padding rows, without media.
ORDER = ("a", "t", "a", "b", "b", "a", "p", "p")
KINDS = {"a": "separate", "t": "separate", "b": "interleaved", "p": "text"}
LORA = {"lora_rank": 4, "lora_alpha": 8, "target_modules": r".*thinker\.model\.layers\.\d+\.self_attn\.[qv]_proj"}


@pytest.fixture(scope="module")
def cases(processor, rows, tmp_path_factory):
    """The file of the samples."""
    from verl_ext.models.rope import position_ids

    samples = []
    for seed, prompt in enumerate(ORDER):
        kind = KINDS[prompt]
        generator = torch.Generator().manual_seed(seed)
        if kind == "text":
            chat = [{"role": "user", "content": "."}]
        else:
            chat = messages(rows["atb".index(prompt)], audio_in_video=kind == "interleaved")
        encoded = encoder(processor, audio_in_video=kind == "interleaved")(chat)
        size = 1 if prompt == "p" else 4 + 3 * seed
        response, branch = (
            torch.randint(100, len(processor.tokenizer), (length,), generator=generator) for length in (size, 9 - seed)
        )
        ids = torch.cat([torch.tensor(encoded.prompt_ids), response])
        samples.append(
            {
                "uid": prompt,
                "input_ids": ids,
                "position_ids": position_ids(processor.rope, ids, encoded.inputs),
                "responses": response,
                "advantages": torch.randn(size, generator=generator),
                "branch_ids": branch,
                "set_positions": torch.tensor([size - 1, 0, size // 2]),
                "branch_set_positions": torch.tensor([0, len(branch) - 1, 0]),
                "multi_modal_inputs": encoded.inputs,
            }
        )
    sets = [list(range(100, 120)), [7], list(range(200, 300))]
    shares = [[0.5] * len(tokens) for tokens in sets]
    file = tmp_path_factory.mktemp("shared_prompt") / "cases.pt"
    torch.save({"token_sets": sets, "token_shares": shares, "samples": samples}, file)
    return file


WAYS = {
    1: {
        "all at once": {"micro_batch_size": 8},
        "micro-batches that cut groups": {"micro_batch_size": 2},
        "LoRA": {"micro_batch_size": 8, "engine": LORA},
    },
    2: {
        "all at once": {"micro_batch_size": 4},
        "one by one": {"micro_batch_size": 1},
        "LoRA": {"micro_batch_size": 2, "engine": LORA},
        "logits in chunks": {"micro_batch_size": 4, "chunk": 613 * 9},  # more chunks on one rank than on the other
        "no checkpointing": {"micro_batch_size": 4, "engine": {"enable_gradient_checkpointing": False}},
    },
}
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
    for way in ("packed", "packed again"):
        values, gradients = gaps(results, samples, way)
        print(f"{ranks} ranks, {name}, {way}: max |Δ| {values:.1e}, of gradients {gradients:.1e}")
        assert values <= LIMIT
        assert gradients <= LIMIT
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
            assert kinds == {name: {True} if name == "one by one" else {False, True} for name in kinds}
        for log in logs:
            assert log.count("and set log-probs of one forward for all continuations of a prompt") >= len(WAYS[ranks])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_silent_fault_turns_the_run_to_plain_forwards_on_every_rank(fault, runs, samples):
    results = [result[fault] for result in runs[2][0]]
    assert all(result["differs"] for result in results), "not noticed"
    values, gradients = gaps(results, samples, "packed")
    assert values <= LIMIT
    assert gradients <= LIMIT
    for result in results:
        assert result["packed"]["forwards"][-3:] == result["plain"]["forwards"]
