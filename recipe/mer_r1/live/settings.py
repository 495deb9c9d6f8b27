"""What a run was started with, in a few facts for the page: experiment, model, data, steps, learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from recipe.mer_r1.run import record


def facts(run_dir: Path) -> dict[str, str]:
    """Name → value; empty where the run left no config.yaml."""
    config = record.read_config(run_dir)
    preset = config.get("preset") if config else None
    if preset is None:
        return {}
    starts = record.read_starts(run_dir)
    stage = starts[-1]["stage"] if starts else "ppo"
    found = _sft(preset) if stage == "sft" else _rl(config, preset)
    found["preset"] = f"{preset.get('name', '?')}, seed {preset.get('seed', '?')}"
    if starts:
        found["code"] = _commit(starts[-1].get("git"))
        if len(starts) > 1:
            found["code"] += f" (start {len(starts)} of this run)"
    return {name: value for name, value in found.items() if value}


def _commit(state: str | None) -> str:
    """The first 12 characters of the commit, with "+dirty" where files differed from it."""
    if not state:
        return "not a checkout"
    commit, plus, dirty = state.partition("+")
    return f"{commit[:12]}{plus}{dirty}"


def _rl(config: DictConfig, preset: DictConfig) -> dict[str, str]:
    optimiser = OmegaConf.select(config, "actor_rollout_ref.actor.optim.lr")
    terms = OmegaConf.select(config, "mer_r1.terms") or []
    return {
        "experiment": f"{OmegaConf.select(config, 'experiment.name') or '?'}: {_terms(terms)}",
        "model": _text(preset.get("model_path")),
        "data": _text(preset.get("train_files")),
        "learning rate": _number(optimiser if optimiser is not None else preset.get("lr")),
        "KL coefficient": _number(preset.get("kl_coef")),
        "a step": f"{preset.get('prompts_per_step')} prompts × {preset.get('responses_per_prompt')} responses",
    }


def _sft(preset: DictConfig) -> dict[str, str]:
    sft = preset.get("sft") or {}
    return {
        "stage": "SFT",
        "model": _text(sft.get("model_path")),
        "data": _text(sft.get("train_files")),
        "learning rate": f"{_number(sft.get('lr'))}, {sft.get('warmup_steps')} steps of warm-up",
        "a step": f"{sft.get('batch_size')} clips",
        "fast form": f"{100 * (sft.get('fast_fraction') or 0):g} % of the clips",
    }


def _terms(terms: Any) -> str:
    """`recall + precision + 0.1 calib_pos`, as in the advantage (Eq. 12)."""
    parts = []
    for term in terms:
        weight = term.get("weight", 1.0)
        names = " + ".join(name if part == 1 else f"{part:g} {name}" for name, part in term["signals"].items())
        names = f"({names})" if len(term["signals"]) > 1 and weight != 1 else names
        parts.append(names if weight == 1 else f"{weight:g} {names}")
    return " + ".join(parts) or "an estimator of verl"


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if value is not None and not isinstance(value, str) else value or ""


def _number(value: Any) -> str:
    return "" if value is None else f"{value:g}"
