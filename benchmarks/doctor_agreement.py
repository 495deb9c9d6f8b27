"""Measure what `doctor --model` tells apart in bfloat16: a right vLLM, and faults that are put into transformers' side.

    python benchmarks/doctor_agreement.py --model DIR [--preset NAME] [--json]

vLLM answers once, on the CPU. Each row compares its log-probs with those of transformers in float32: mean and largest
difference in nats, and both as multiples of the rounding of transformers in bfloat16.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, where it is not installed

from recipe.mer_r1.doctor import compare
from recipe.mer_r1.eval.generate import load_preset
from recipe.mer_r1.run import launch

DTYPE = "bfloat16"


class Sides:
    """vLLM's answers to the made clip, and transformers' log-probs of them, right or with a fault."""

    def __init__(self, model: str, preset: str):
        changes = [f"rollout.dtype={DTYPE}", "rollout.max_sequences=4", "rollout.eager=true"]
        self.model = model
        self.answers, self.encoded, self.processor = compare.rollout_side(model, load_preset(preset, changes))
        self.log_probs = [value for answer in self.answers for value in answer.log_probs]
        self.exact, rounded = self.train(self.encoded)
        self.noise = compare.distance(rounded, self.exact)

    def train(self, encoded: Any, dtype: str = DTYPE) -> tuple[list[float], list[float] | None]:
        """Log-probs in float32, and in ``dtype``."""
        responses = [answer.token_ids for answer in self.answers]
        return compare.train_side(self.model, dtype, "cpu", self.processor, encoded, responses)

    def gap(self, fault: str | None = None) -> dict[str, float]:
        """Mean and largest difference of vLLM from transformers with this one of :data:`FAULTS`."""
        exact = self.exact if fault is None else FAULTS[fault](self)
        return compare.distance(self.log_probs, exact)


def another_clip(sides: Sides) -> list[float]:
    """The frames' patches in the reverse order, and the sound 7 frames later."""
    inputs = {
        name: value.flip(0) if "pixel" in name else value.roll(7, -2) if name == "input_features" else value
        for name, value in sides.encoded.inputs.items()
    }
    return sides.train(dataclasses.replace(sides.encoded, inputs=inputs))[0]


def other_weights(sides: Sides) -> list[float]:
    """Noise of 1 % of each weight's spread on the text model."""
    import torch

    from verl_ext.models.model import Qwen2_5OmniThinkerPolicy as Policy

    load = Policy.from_pretrained

    def noisy(*arguments: Any, **named: Any) -> Any:
        policy = load(*arguments, **named)
        torch.manual_seed(0)
        with torch.no_grad():
            for weight in policy.thinker.model.parameters():
                if weight.numel() > 1:
                    weight += 0.01 * weight.std() * torch.randn_like(weight)
        return policy

    with mock.patch.object(Policy, "from_pretrained", noisy):
        return sides.train(sides.encoded)[0]


def positions(change: Callable[[Sides, Any, Any], Any]) -> Callable[[Sides], list[float]]:
    """A fault that changes the position ids ``(channels, L)`` of the tokens ``(L,)``."""

    def fault(sides: Sides) -> list[float]:
        with _positions(sides, change):
            return sides.train(sides.encoded)[0]

    return fault


@contextlib.contextmanager
def _positions(sides: Sides, change: Callable[[Sides, Any, Any], Any]) -> Iterator[None]:
    from verl_ext.models import rope

    right = rope.position_ids

    def wrong(used: Any, ids: Any, inputs: Any) -> Any:
        return change(sides, right(used, ids, inputs).clone(), ids)

    with mock.patch.object(rope, "position_ids", wrong):
        yield


def _flat(_: Sides, found: Any, ids: Any) -> Any:
    import torch

    return torch.arange(len(ids)).expand_as(found).clone()


def _response_later(sides: Sides, found: Any, _: Any) -> Any:
    found[:, len(sides.encoded.prompt_ids) :] += 1
    return found


def _sound_earlier(sides: Sides, found: Any, ids: Any) -> Any:
    found[1:, ids == sides.processor.audio_token_id] -= 1
    return found


FAULTS: dict[str, Callable[[Sides], list[float]]] = {
    "another clip": another_clip,
    "weights with 1 % noise": other_weights,
    "M-RoPE left out": positions(_flat),
    "response one later": positions(_response_later),
    "sound one earlier": positions(_sound_earlier),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="DIR")
    parser.add_argument("--preset", default="tiny", help="its media settings are used (default: %(default)s)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    launch.prepare_environment("cpu", options.model)
    sides = Sides(options.model, options.preset)
    rows = {name or "the same model": sides.gap(name) for name in (None, *FAULTS)}
    if options.json:
        print(json.dumps({"tokens": len(sides.log_probs), "noise": sides.noise, "rows": rows}))
        return
    print(f"{len(sides.log_probs)} tokens; rounding: mean {sides.noise['mean']:.4f}, max {sides.noise['max']:.3f}")
    for name, gap in rows.items():
        shares = ", ".join(f"{kind} {gap[kind]:.4f} ({gap[kind] / sides.noise[kind]:.2f} x)" for kind in gap)
        print(f"{name:24}{shares}")


if __name__ == "__main__":
    main()
