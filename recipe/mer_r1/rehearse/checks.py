"""What the stages left behind, as figures, and whether each is as it must be."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from recipe.mer_r1.method.experiments import reads_confidence
from recipe.mer_r1.pipeline.progress import read_steps
from recipe.mer_r1.rehearse.changes import Places
from recipe.mer_r1.rehearse.until_stop import KEPT
from recipe.mer_r1.run import output, steps

GAP_MEAN = {"float32": 1e-5}
GAP_MEAN_LOW_PRECISION = 0.03
"""Nats between a token's log-prob in vLLM and in the actor, on average over a step."""
GAP = "rollout_actor_log_prob_diff"
_SFT = ("train/loss", "train/grad_norm")
_RL = ("actor/loss", "actor/pg_loss", "actor/kl_loss", "actor/entropy", "actor/grad_norm", f"{GAP}/max", f"{GAP}/mean")
_SHOWN = (
    *_RL,
    *(f"reward/{name}" for name in ("recall", "precision", "f1", "format", "num_words", "missing")),
    *(f"{name}_length/{end}" for name in ("prompt", "response") for end in ("mean", "max")),
    "advantage/std",
    "confidence/coverage",
    "timing_s/step",
)
_ONE_FORWARD = re.compile(r"verl_ext: (log-probs .*of one forward.*)")
_GAVE_UP = "The run continues with plain forwards"


@dataclass(frozen=True)
class Check:
    """One thing that must be so; `seen` says what was found."""

    name: str
    ok: bool
    seen: str


def figures(places: Places, config: DictConfig) -> dict[str, Any]:
    """Numbers of a rehearsal whose stages have ended well."""
    said = (places.rl / output.LOG).read_text(errors="replace")
    rl = read_steps(places.rl / "metrics.jsonl")
    before_stop = places.rl / KEPT
    return {
        "sft": {step: _picked(data, _SFT) for step, data in read_steps(places.sft / "metrics.jsonl").items()},
        "rl": {step: _picked(data, _SHOWN) for step, data in rl.items()},
        "one_forward": sorted(set(_ONE_FORWARD.findall(said))),
        "gave_up": _GAVE_UP in said,
        "first_step_kept": before_stop.exists() and steps.read(before_stop).get(1) == _training(rl.get(1), before_stop),
        "validated_at": [step for step, data in steps.read(places.rl / "metrics.jsonl").items() if _validated(data)],
        "reply": (places.serve / "reply.txt").read_text(encoding="utf-8"),
        "exported": sorted(file.name for file in places.export.iterdir()),
    }


def _picked(data: Mapping[str, float], names: Iterable[str]) -> dict[str, float]:
    return {name: data[name] for name in names if name in data}


def _validated(data: Mapping[str, float]) -> bool:
    return any(key.startswith("val-") for key in data)


def _training(data: Mapping[str, Any] | None, before_stop: Path) -> dict[str, Any] | None:
    """Step 1 as the resumed run has it, without what a validation at its start may have added."""
    kept = steps.read(before_stop).get(1, {})
    return None if data is None else {key: value for key, value in data.items() if key in kept}


def judge(made: Mapping[str, Any], config: DictConfig) -> list[Check]:
    """The checks, on the figures and the rehearsed configuration of RL."""
    preset, rl = config.preset, made["rl"]
    dtype = preset.rollout.dtype
    limit = GAP_MEAN.get(dtype, GAP_MEAN_LOW_PRECISION)
    gaps = {end: max((data.get(f"{GAP}/{end}", math.nan) for data in rl.values()), default=math.nan) for end in _ENDS}
    last = rl.get(max(rl, default=0), {})
    return [
        _finite("SFT", made["sft"], _SFT, preset.sft.steps),
        _finite("RL", rl, _RL, preset.steps),
        Check("resume", bool(made["first_step_kept"]), f"steps {sorted(rl)}; step 1 is that of before the stop"),
        Check("validation", bool(made["validated_at"]), f"at steps {made['validated_at']}"),
        Check(
            f"log-probs of vLLM ({dtype}) and the actor",
            gaps["mean"] <= limit,
            f"differ by at most {gaps['max']:.1e}, on average {gaps['mean']:.1e} (limit {limit:g})",
        ),
        *_confidence(made, config),
        Check(
            "prompt",
            0 < last.get("prompt_length/max", 0) <= preset.max_prompt_length,
            f"{last.get('prompt_length/max', 0):.0f} tokens (limit {preset.max_prompt_length})",
        ),
        Check(
            "answers",
            last.get("reward/missing", 1) == 0,
            f"F1 {last.get('reward/f1', math.nan):.2f}, format {last.get('reward/format', math.nan):.2f}, "
            f"{last.get('reward/num_words', math.nan):.1f} words, "
            f"{last.get('response_length/mean', math.nan):.0f} tokens on average",
        ),
        Check("export", "lineage.json" in made["exported"], f"{len(made['exported'])} files"),
        Check("vllm serve", bool(made["reply"].strip()), made["reply"].strip()[:100]),
    ]


_ENDS = ("max", "mean")


def _finite(name: str, taken: Mapping[int, Mapping[str, float]], keys: Iterable[str], wanted: int) -> Check:
    """All steps were taken, and each value of each of them is a number."""
    bad = [
        f"{key} {data.get(key)} at step {step}"
        for step, data in taken.items()
        for key in keys
        if not math.isfinite(data.get(key, math.nan))
    ]
    loss = "train/loss" if "train/loss" in keys else "actor/loss"
    losses = ", ".join(f"{data.get(loss, math.nan):.3g}" for data in taken.values())
    norm = "train/grad_norm" if loss == "train/loss" else "actor/grad_norm"
    norms = ", ".join(f"{data.get(norm, math.nan):.3g}" for data in taken.values())
    ok = not bad and sorted(taken) == list(range(1, wanted + 1))
    seen = "; ".join(bad) if bad else f"{len(taken)} of {wanted} steps; loss {losses}; gradient norm {norms}"
    return Check(f"{name} steps", ok, seen)


def _confidence(made: Mapping[str, Any], config: DictConfig) -> list[Check]:
    """The engine's own check of one forward, where the experiment reads confidence."""
    if not (reads_confidence(config) and config.mer_r1.shared_prompt):  # without it there is nothing to compare
        return []
    seen = "; ".join(made["one_forward"])
    ok = bool(seen) and not made["gave_up"]
    return [Check("confidence pass", ok, seen or "no line of its check in the logs")]
