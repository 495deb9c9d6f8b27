"""One row for a prompt's continuations against one naive forward for each, on real models: values and gradients."""

import pytest
import torch
from omni_cases import encoder, messages

from verl_ext.actor.shared_prompt import Sample, find_groups, pack
from verl_ext.models.model import Qwen2_5OmniThinkerPolicy

pytestmark = pytest.mark.seam

LIMIT = 1e-5
SHORT = {"max_frames": 2}


@pytest.fixture(scope="module")
def wide(processor):
    """Two layers of Qwen2.5-Omni-3B's text model, with the tiny model's vocabulary and towers."""
    from verl_ext.models.tiny import TinySize, tiny_config

    size = TinySize(hidden=2048, mlp=11_008, layers=2, heads=16, kv_heads=2, init_std=0.02)
    config = tiny_config(processor.tokenizer, size)
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    return Qwen2_5OmniThinkerPolicy(config).eval()


@pytest.fixture(scope="module")
def samples(processor, rows):
    """A group of two with separate sound and one response with interleaved sound, unequal lengths, two branches."""
    from verl_ext.models.rope import position_ids

    draw = torch.Generator().manual_seed(0)
    shapes = [("separate", 7, 5), ("interleaved", 9, 4), ("separate", 4, None)]
    found = []
    for kind, size, of_branch in shapes:
        interleaved = kind == "interleaved"
        encoded = encoder(processor, interleaved, **SHORT)(messages(rows[interleaved], interleaved))
        response = torch.randint(100, 500, (size,), generator=draw)
        branch = None if of_branch is None else torch.randint(100, 500, (of_branch,), generator=draw)
        ids = torch.cat([torch.tensor(encoded.prompt_ids), response])
        positions = position_ids(processor.rope, ids, encoded.inputs)
        found.append(Sample(ids, positions, len(encoded.prompt_ids), branch, encoded.inputs))
    return found


def weights(sequences):
    return torch.linspace(-1, 1, sum(map(len, sequences)))


def continuations(samples):
    return [one.response for one in samples] + [one.branch for one in samples if one.branch is not None]


def naive(policy, processor, samples):
    """``(Σ,)``: log-probs of all responses, then of all branches, a forward for each."""
    from verl_ext.models.rope import position_ids

    found = []
    for part in ("response", "branch"):
        for one in samples:
            tokens = getattr(one, part)
            if tokens is None:
                continue
            ids = torch.cat([one.ids[: one.prompt_length], tokens])
            positions = position_ids(processor.rope, ids, one.media)[:, None]
            mask = torch.ones_like(ids)[None]
            logits = policy(input_ids=ids[None], attention_mask=mask, position_ids=positions, **one.media).logits[0]
            log_probs = logits[one.prompt_length - 1 : -1].log_softmax(-1)
            found.append(log_probs.gather(1, tokens[:, None])[:, 0])
    return torch.cat(found)


def shared(policy, samples):
    """The same from one forward."""
    from verl.utils.model import extract_multi_modal_inputs

    groups = find_groups(samples)
    assert groups == [[0, 2], [1]]
    packed = pack(samples, groups)
    places = [packed.before_response(i, torch.arange(len(one.response))) for i, one in enumerate(samples)]
    with_branch = [index for index, one in enumerate(samples) if one.branch is not None]
    places += [packed.before_branch(i, torch.arange(len(samples[i].branch))) for i in with_branch]
    logits = policy(
        input_ids=packed.input_ids,
        attention_mask=packed.attention_mask,
        position_ids=packed.position_ids,
        logits_at=torch.cat(places),
        **extract_multi_modal_inputs([samples[group[0]].media for group in groups]),
    ).logits
    return logits.log_softmax(-1).gather(1, torch.cat(continuations(samples))[:, None])[:, 0]


def gradients(policy, log_probs, samples):
    policy.zero_grad()
    (log_probs * weights(continuations(samples))).sum().backward()
    found = {name: parameter.grad for name, parameter in policy.named_parameters() if parameter.grad is not None}
    policy.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("model", ["policy", "wide"])
def test_log_probs_and_gradients_are_those_of_one_forward_each(model, samples, processor, request):
    policy = request.getfixturevalue(model)
    expected = naive(policy, processor, samples)
    of_each = gradients(policy, expected, samples)
    found = shared(policy, samples)
    of_one = gradients(policy, found, samples)
    gap = (found - expected).abs().max().item()
    norm = torch.stack([gradient.norm() for gradient in of_each.values()]).norm()
    assert of_one.keys() == of_each.keys()
    assert len(of_each) >= len(list(policy.parameters())) - 1  # that one has no gradient in the Thinker
    # A bias of keys has no gradient but rounding, so that it is compared with the whole gradient.
    worst = max((of_one[name] - one).norm() / max(one.norm(), 1e-3 * norm) for name, one in of_each.items()).item()
    print(f"{model}: max |Δ log-prob| {gap:.1e}, gradients {worst:.1e} of their norm")
    assert gap <= LIMIT
    assert worst <= LIMIT


@pytest.mark.parametrize("elements", [2**27, 613 * 7])
def test_rows_are_those_of_all_logits(elements, policy, samples, monkeypatch):
    """In full and scored, several times the same, in one chunk and in several: values and gradients."""
    from verl_ext.models import head

    monkeypatch.setattr(head, "CHUNK_ELEMENTS", elements)
    one = samples[1]
    inputs = {"input_ids": one.ids[None], "attention_mask": torch.ones_like(one.ids)[None]}
    inputs |= {"position_ids": one.positions[:, None], **one.media}
    full, scored = torch.tensor([3, len(one.ids) - 1, 3]), torch.arange(len(one.ids)).flip(0)[:20]
    labels, seen = torch.arange(20), []

    def score(logits, which):
        seen.append(len(logits))
        log_probs = logits.log_softmax(-1)
        return torch.stack([log_probs.gather(1, labels[which, None])[:, 0], log_probs[:, 7]], dim=1)

    every = policy(**inputs).logits
    assert every.shape[:2] == (1, len(one.ids))
    expected = every[0, full], score(every[0, scored], slice(None))
    seen.clear()
    output = policy(**inputs, logits_at=full, scores_at=scored, score=score)
    assert seen == ([20] if elements == 2**27 else [7, 7, 6])
    found = output.logits, output.scores
    for one_way, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one_way, other, atol=1e-6, rtol=1e-6)
    of = []
    for parts in (expected, found):
        sum((part * torch.linspace(-1, 1, part.numel()).view_as(part)).sum() for part in parts).backward()
        of.append({name: parameter.grad for name, parameter in policy.named_parameters() if parameter.grad is not None})
        policy.zero_grad(set_to_none=True)
    assert of[0].keys() == of[1].keys()
    for name, gradient in of[0].items():
        torch.testing.assert_close(of[1][name], gradient, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        assert torch.equal(policy(**inputs).logits, every), "the head stays changed"
        torch.testing.assert_close(policy(**inputs, logits_at=full).logits, expected[0], atol=1e-6, rtol=1e-6)
