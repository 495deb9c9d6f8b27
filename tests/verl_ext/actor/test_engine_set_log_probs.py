"""Set log-probs of the engine, for responses and branches, against one naive forward a sequence; one rank and two."""

import pytest
import torch
from omni_cases import encoder, messages
from ranks import run_ranks

pytestmark = pytest.mark.seam

LIMIT = 1e-5
KINDS = ("separate", "interleaved", "text", "separate", "text", "text", "interleaved", "separate")
SETS = 5
WAYS = ("packed", "packed one by one", "two forwards")


@pytest.fixture(scope="module")
def token_sets(processor):
    """Random sets of random sizes: one single token, one shared with another set, one empty."""
    generator = torch.Generator().manual_seed(7)
    drawn = [torch.randperm(len(processor.tokenizer), generator=generator)[:size].tolist() for size in (1, 9, 30, 4)]
    drawn[2] = sorted({*drawn[2], drawn[1][0]})
    return [*drawn, []]


@pytest.fixture(scope="module")
def token_shares(token_sets):
    """Of every second token half counts."""
    return [[1.0 if index % 2 else 0.5 for index in range(len(tokens))] for tokens in token_sets]


@pytest.fixture(scope="module")
def samples(processor, rows):
    """Responses of unequal lengths with branches of unequal lengths; places at both ends and twice the same."""
    from verl_ext.models.rope import position_ids

    found = []
    for seed, kind in enumerate(KINDS):
        generator = torch.Generator().manual_seed(seed)
        if kind == "text":
            chat = [{"role": "user", "content": f"What does person {seed} feel?"}]
        else:
            chat = messages(rows[seed // 2], audio_in_video=kind == "interleaved")
        encoded = encoder(processor, audio_in_video=kind == "interleaved")(chat)
        response = torch.randint(100, len(processor.tokenizer), (3 + 2 * seed,), generator=generator)
        branch = torch.randint(100, len(processor.tokenizer), (9 - seed,), generator=generator)
        ids = torch.cat([torch.tensor(encoded.prompt_ids), response])
        places = torch.randint(0, len(response), (1 + seed % 3,), generator=generator)
        found.append(
            {
                "input_ids": ids,
                "position_ids": position_ids(processor.rope, ids, encoded.inputs),
                "responses": response,
                "branch_ids": branch,
                "set_positions": torch.cat([places, torch.tensor([0, len(response) - 1])]),
                "branch_set_positions": torch.cat([places % len(branch), torch.tensor([len(branch) - 1, 0])]),
                "multi_modal_inputs": encoded.inputs,
                "prompt_ids": encoded.prompt_ids,
            }
        )
    return found


@pytest.fixture(scope="module")
def runs(samples, token_sets, token_shares, tiny_model, tmp_path_factory):
    """Number of ranks -> (one dict a rank, outputs)."""
    folder = tmp_path_factory.mktemp("set_log_probs")
    torch.save({"token_sets": token_sets, "token_shares": token_shares, "samples": samples}, folder / "cases.pt")
    found = {}
    for ranks in (1, 2):
        out = folder / str(ranks)
        out.mkdir()
        logs = run_ranks("set_log_probs_rank.py", ranks, (tiny_model, folder / "cases.pt", out))
        found[ranks] = [torch.load(out / f"rank{rank}.pt", weights_only=False) for rank in range(ranks)], logs
    return found


def joined(runs, ranks, way, name):
    """Rows of all responses, in order."""
    return [row for result in runs[ranks][0] for row in result[way][name]]


@torch.no_grad()
def naive(policy, processor, sample, continuation, places, sets):
    """(n, S + 1) from a forward of the prompt and this continuation alone."""
    from verl_ext.models.rope import position_ids

    ids = torch.cat([torch.tensor(sample["prompt_ids"]), continuation])
    logits = policy(
        input_ids=ids[None],
        attention_mask=torch.ones_like(ids)[None],
        position_ids=position_ids(processor.rope, ids, sample["multi_modal_inputs"])[:, None],
        **sample["multi_modal_inputs"],
    ).logits[0]
    found = []
    for place in places.tolist():
        at = len(sample["prompt_ids"]) + place
        log_probs = logits[at - 1].log_softmax(-1)
        masses = [(log_probs[tokens].exp() * torch.tensor(shares)).sum().log() for tokens, shares in sets]
        found.append([*masses, log_probs[ids[at]]])
    return torch.tensor(found)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("way", WAYS)
def test_they_equal_naive_forwards(way, ranks, runs, samples, policy, processor, token_sets, token_shares):
    gaps, sets = [], list(zip(token_sets, token_shares, strict=True))
    for part, continuation, places in (
        ("set_log_probs", "responses", "set_positions"),
        ("branch_set_log_probs", "branch_ids", "branch_set_positions"),
    ):
        rows = joined(runs, ranks, way, part)
        assert len(rows) == len(samples)
        for row, sample in zip(rows, samples, strict=True):
            expected = naive(policy, processor, sample, sample[continuation], sample[places], sets)
            found = row.view(-1, SETS + 1)
            assert found.shape == expected.shape
            assert torch.equal(found[:, SETS - 1].isneginf(), torch.ones(len(found), dtype=torch.bool)), "empty set"
            gaps.append((found - expected)[:, [0, 1, 2, 3, 5]].abs().max())
    print(f"{way}, {ranks} ranks: max |Δ| {max(gaps):.1e}")
    assert max(gaps) <= LIMIT


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["log_probs", "entropy"])
def test_log_probs_and_entropy_are_those_without_sets(name, way, ranks, runs, samples):
    pairs = zip(joined(runs, ranks, way, name), joined(runs, ranks, "plain", name), samples, strict=True)
    for with_sets, plain, sample in pairs:
        read = slice(-len(sample["responses"]) - 1, -1)
        assert (with_sets - plain)[read].abs().max() <= LIMIT


@pytest.mark.parametrize("ranks", [1, 2])
def test_without_sets_nothing_is_added(ranks, runs):
    for result in runs[ranks][0]:
        assert set(result["plain"]) == {"log_probs", "entropy"}


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_one_forward_was_checked_on_the_first_batch(ranks, runs):
    for log in runs[ranks][1]:
        assert log.count("set log-probs of one forward for all continuations of a prompt and of plain forwards") == 1
