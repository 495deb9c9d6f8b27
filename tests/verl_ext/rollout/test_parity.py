"""Rollout and actor give the same log-probs: vLLM with the plugin against the policy in transformers, in fp32.

One engine goes through three sets of weights: those of the checkpoint, changed ones sent to the running engine, and
ones that would rather say media tokens than words.
"""

import pytest
import torch
from omni_cases import actor_log_probs, biased_to, model_inputs, prompts, sharpened
from rollout_engine import RolloutEngine

from verl_ext.models.processor import media_token_ids

pytestmark = pytest.mark.seam

LIMIT = 1e-5
KINDS = ("separate", "interleaved", "partial", "text")
STAGES = ("checkpoint", "synced", "biased")


@pytest.fixture(scope="module")
def weights(policy, processor):
    """The policy's weights by stage, under the names that verl's engine sends."""
    from verl.utils.model import convert_weight_keys

    drawn = {name: tensor.detach().clone() for name, tensor in convert_weight_keys(policy.state_dict(), policy).items()}
    assert all(name.startswith("thinker.") for name in drawn)
    changed = sharpened(drawn)
    return {"checkpoint": drawn, "synced": changed, "biased": biased_to(changed, media_token_ids(processor))}


@pytest.fixture(scope="module")
def samples(tiny_model, processor, rows, long_row, weights):
    """Sampled responses by stage and kind."""
    from verl.workers.rollout.utils import get_vision_placeholder_token_ids
    from vllm.sampling_params import RequestOutputKind

    cases = prompts(processor, rows, long_row)
    engine = RolloutEngine(tiny_model, processor)
    found = {}
    try:
        engine.ban(get_vision_placeholder_token_ids(processor))
        for stage in STAGES:
            if stage != "checkpoint":
                engine.load(weights[stage])
            for kind in KINDS:
                found[stage, kind] = engine.sample(cases[kind])
        # What the server asks for where responses come together (verl_ext/rollout/server.py), and verl's own.
        ends = {"output_kind": RequestOutputKind.FINAL_ONLY, "detokenize": False}
        for name, options in {"each": {}, "ends": ends}.items():
            found[name] = engine.outputs(cases["separate"][0], seeds=[5, 6, 7], **options)
    finally:
        engine.close()
    return found


@pytest.fixture(scope="module")
def actor(tiny_model):
    """A policy of its own, whose weights the tests change."""
    from verl_ext.models.model import Qwen2_5OmniThinkerPolicy

    return Qwen2_5OmniThinkerPolicy.from_pretrained(tiny_model, dtype=torch.float32, attn_implementation="sdpa").eval()


def gaps(actor, processor, found, shift=0):
    """|Δ log-prob| of every sampled token, one tensor."""
    both = [(actor_log_probs(actor, processor, encoded, ids, shift), rollout) for encoded, ids, rollout in found]
    assert all(torch.isfinite(rollout).all() for _, rollout in both)
    return torch.cat([(ours - theirs).abs() for ours, theirs in both])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", STAGES)
def test_rollout_and_actor_agree(stage, kind, samples, weights, actor, processor, record_property):
    actor.load_state_dict(weights[stage])
    gap = gaps(actor, processor, samples[stage, kind])
    print(f"{stage:10} {kind:11} max |Δ log-prob| {gap.max():.2e}, mean {gap.mean():.2e}, {len(gap)} tokens")
    record_property("max_abs_log_prob_difference", gap.max().item())
    assert gap.max() <= LIMIT


@pytest.mark.parametrize("kind", ["separate", "interleaved"])
def test_the_comparison_would_see_positions_one_token_off(kind, samples, weights, actor, processor):
    actor.load_state_dict(weights["synced"])
    assert gaps(actor, processor, samples["synced", kind], shift=1).max() > 1000 * LIMIT


@pytest.mark.parametrize("kind", KINDS)
def test_the_comparison_would_see_weights_that_were_not_synced(kind, samples, weights, actor, processor):
    actor.load_state_dict(weights["checkpoint"])
    assert gaps(actor, processor, samples["synced", kind]).max() > 1000 * LIMIT


def test_responses_depend_on_the_media(samples, weights, actor, processor):
    """The same response behind another clip of equal size has other log-probs: features do reach the model."""
    actor.load_state_dict(weights["synced"])
    encoded, ids, _ = samples["synced", "separate"][0]
    own = actor_log_probs(actor, processor, encoded, ids)
    for name in ("pixel_values_videos", "input_features"):
        swapped = type(encoded)(encoded.prompt_ids, {**encoded.inputs, name: encoded.inputs[name].flip(0).flip(-1)})
        other = actor_log_probs(actor, processor, swapped, ids)
        assert (own - other).abs().max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_media_tokens_are_never_sampled_however_likely(kind, samples, weights, actor, processor):
    media = media_token_ids(processor)
    actor.load_state_dict(weights["biased"])
    for encoded, ids, _ in samples["biased", kind]:
        assert not set(ids) & set(media)
        with torch.no_grad():
            inputs = model_inputs(processor, encoded, ids)
            free = actor.thinker(**inputs).logits[0, -len(ids) - 1 : -1].softmax(-1)
            held = actor(**inputs).logits[0, -len(ids) - 1 : -1].softmax(-1)
        assert free[:, media].sum(-1).median() > 0.9, "the weights are not biased enough to show anything"
        assert held[:, media].max() == 0


def test_asking_for_the_end_alone_changes_no_number(samples):
    each, ends = samples["each"], samples["ends"]
    assert [number for number, _, _ in ends] == [1, 1, 1]
    assert all(number == len(ids) for number, ids, _ in each), "as released, vLLM sends an output per token"
    for (_, one_by_one, log_probs), (_, at_once, found) in zip(each, ends, strict=True):
        assert at_once == one_by_one
        # Not bit by bit: which requests share vLLM's next step depends on the clock, and sums round with the batch.
        assert found == pytest.approx(log_probs, abs=LIMIT)
    assert len({tuple(ids) for _, ids, _ in ends}) == 3
    assert all(len(ids) > 1 for _, ids, _ in ends)


def test_all_seven_media_tokens_are_banned(processor):
    from verl.workers.rollout.utils import get_vision_placeholder_token_ids

    banned = get_vision_placeholder_token_ids(processor)
    names = (
        "<|IMAGE|>",
        "<|VIDEO|>",
        "<|AUDIO|>",
        "<|vision_bos|>",
        "<|vision_eos|>",
        "<|audio_bos|>",
        "<|audio_eos|>",
    )
    assert sorted(banned) == sorted(processor.tokenizer.convert_tokens_to_ids(list(names)))
