"""The lines with which a run names itself on the screen."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from omegaconf import DictConfig

from recipe.mer_r1.run import output, saved, state
from recipe.mer_r1.run.sft_scoring import scored_files

BUILT_IN = "built-in (our own, not the official ones: docs/wheels.md)"


def of_rl(config: DictConfig, steps: int | None) -> list[str]:
    """Five lines: experiment, model, data, steps, wheels.

    Args:
        steps: of the whole run; None where the shards cannot be read.
    """
    preset, run_dir = config.preset, config.run_dir
    size = f"{preset.prompts_per_step} prompts × {preset.responses_per_prompt} responses, lr {preset.lr:g}"
    return _aligned(
        ("RL", f"{config.experiment.name} with preset {preset.name}, mode {config.mode.name} → {_log_in(run_dir)}"),
        ("model", config.actor_rollout_ref.model.path),
        ("data", f"{_files(config.data.train_files)}; validation {_files(config.data.val_files)}"),
        ("steps", f"{steps or '?'}, each of {size}; {_begin(config)}"),
        ("wheels", config.mer_r1.wheels.folder or BUILT_IN),
    )


def of_sft(config: DictConfig, steps: int | None) -> list[str]:
    """Four lines, as of RL; with scores, which need wheels, six."""
    sft = config.preset.sft
    size = f"{sft.batch_size} examples, lr {sft.lr:g}, {sft.fast_fraction:.0%} in the fast form"
    return _aligned(
        ("SFT", f"preset {config.preset.name} → {_log_in(config.run_dir)}"),
        ("model", config.model.path),
        ("data", _files(config.data.train_files)),
        ("steps", f"{steps or '?'}, each of {size}; {_begin(config)}"),
        *(_scores(config) if sft.score_every else ()),
    )


def _scores(config: DictConfig) -> Iterable[tuple[str, str]]:
    sft, clips = config.preset.sft, _files(scored_files(config))
    first = "all" if sft.score_clips < 0 else f"the first {sft.score_clips}"
    yield "scores", f"every {sft.score_every} steps, slow and fast, of {first} clips of {clips}"
    yield "wheels", config.mer_r1.wheels.folder or BUILT_IN


def _aligned(*lines: tuple[str, str]) -> list[str]:
    width = max(len(name) for name, _ in lines)
    return [f"{name:{width}}  {text}" for name, text in lines]


def _log_in(run_dir: str) -> str:
    return f"{run_dir} (all other output: {Path(run_dir) / output.LOG})"


def _begin(config: DictConfig) -> str:
    step = saved.newest_step(Path(config.trainer.default_local_dir))
    if step is None or config.trainer.resume_mode == saved.DISABLED:
        return "from the beginning"
    return f"continues after step {step}"


def _files(paths: Iterable[str]) -> str:
    return ", ".join(f"{path} ({rows(path)})" for path in paths)


def rows(path: str) -> str:
    """Number of clips of a shard, in words."""
    found = state.readable(lambda: state.shard_rows([path]))
    return "cannot be read" if found is None else f"{found:,} clips"
