"""The comparison in bfloat16: a vLLM that is right passes, and faults that are put into transformers' side do not.

One run of vLLM serves all of these tests.
"""

import dataclasses
from unittest import mock

import pytest
import torch

from recipe.mer_r1.doctor import agreement, compare
from recipe.mer_r1.eval.generate import load_preset

pytestmark = pytest.mark.seam


class Sides:
    """vLLM's answers, and transformers' log-probs of them, right or with a fault."""

    def __init__(self, model):
        self.model = str(model)
        preset = load_preset("tiny", ["rollout.dtype=bfloat16", "rollout.max_sequences=4"])
        self.answers, self.encoded, self.processor = compare.rollout_side(self.model, preset)
        self.found = {
            "dtype": "bfloat16",
            "tokens": sum(len(answer.token_ids) for answer in self.answers),
            "noise": None,
        }
        exact, rounded = self.train()
        self.found["noise"] = compare.distance(rounded, exact)
        self.exact = exact

    def train(self, encoded=None):
        responses = [answer.token_ids for answer in self.answers]
        return compare.train_side(self.model, "bfloat16", "cpu", self.processor, encoded or self.encoded, responses)

    def judged(self, exact):
        ours = [value for answer in self.answers for value in answer.log_probs]
        return agreement.judge_gap(self.found | {"gap": compare.distance(ours, exact)})


@pytest.fixture(scope="module")
def sides(tiny_model):
    return Sides(tiny_model)


def test_what_is_compared(sides):
    assert [len(answer.token_ids) <= compare.TOKENS for answer in sides.answers] == [True] * (1 + compare.SAMPLED)
    assert len({tuple(answer.token_ids) for answer in sides.answers}) == 1 + compare.SAMPLED, (
        "each seed is another answer"
    )
    assert all(answer.prompt_ids == sides.encoded.prompt_ids for answer in sides.answers)
    assert 1e-3 < sides.found["noise"]["mean"] < 1e-2, "bfloat16 rounds"


def test_a_correct_vllm_passes(sides):
    seen, good = sides.judged(sides.exact)
    assert good, seen


def test_another_clip_is_seen(sides):
    inputs = {name: value.flip(0) if "pixel" in name else value for name, value in sides.encoded.inputs.items()}
    seen, good = sides.judged(sides.train(dataclasses.replace(sides.encoded, inputs=inputs))[0])
    assert not good, seen


@pytest.mark.parametrize("fault", ["flat", "response one later"])
def test_wrong_positions_are_seen(sides, fault):
    from verl_ext.models import rope

    right, prompt = rope.position_ids, len(sides.encoded.prompt_ids)

    def wrong(*arguments):
        positions = right(*arguments).clone()
        if fault == "flat":
            return torch.arange(positions.shape[-1]).expand_as(positions).clone()
        positions[:, prompt:] += 1
        return positions

    with mock.patch.object(rope, "position_ids", wrong):
        exact, _ = sides.train()
    seen, good = sides.judged(exact)
    assert not good, seen


def test_weights_that_were_not_synchronised_are_seen(sides):
    from verl_ext.models.model import Qwen2_5OmniThinkerPolicy as Policy

    load = Policy.from_pretrained

    def other(*arguments, **named):
        policy = load(*arguments, **named)
        torch.manual_seed(0)
        with torch.no_grad():
            for weight in policy.thinker.model.parameters():
                if weight.numel() > 1:
                    weight += 0.02 * weight.std() * torch.randn_like(weight)
        return policy

    with mock.patch.object(Policy, "from_pretrained", other):
        exact, _ = sides.train()
    seen, good = sides.judged(exact)
    assert not good, seen


def test_float32_is_compared_with_itself(sides):
    responses = [sides.answers[0].token_ids]
    exact, rounded = compare.train_side(sides.model, "float32", "cpu", sides.processor, sides.encoded, responses)
    assert rounded is None
    gap = compare.distance(exact, sides.exact[: len(exact)])
    assert 0 < gap["max"] < 0.05, "its weights are not rounded, and those of the other are"


def test_distance_keeps_nan():
    found = compare.distance([0.0, float("nan"), 3.0], [1.0, 1.0, 1.0])
    assert str(found) == "{'mean': nan, 'max': nan}"
    assert compare.distance([0.0, 4.0], [1.0, 1.0]) == {"mean": 2.0, "max": 3.0}
