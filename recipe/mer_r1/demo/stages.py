"""What the demo does, stage by stage: each is a command that a user may type, with what it reads and writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from recipe.mer_r1.pipeline import progress
from recipe.mer_r1.pipeline.stage import Stage
from recipe.mer_r1.run.launch import CONF

DEFAULT_OUT = Path("outputs/demo")
"""Where conf/preset/tiny.yaml expects the demo's files; for another folder the commands name every path."""
_SFT_CONF = (CONF / "sft.yaml", CONF / "preset" / "tiny.yaml")
_RL_CONF = (CONF / "ppo.yaml", CONF / "preset" / "tiny.yaml", CONF / "experiment" / "baseline.yaml")
_PRESET = _SFT_CONF[1]
_FORMS = ("slow", "fast", "slow_sampled", "fast_sampled")
"""What is evaluated: greedy answers, and one sampled as RL samples, which is what it trains."""


@dataclass(frozen=True)
class Scale:
    """How large a demo is; None leaves a number to the command's or preset's own default."""

    clips: int = 1600
    test_clips: int = 160
    sft_steps: int | None = None
    rl_steps: int | None = None
    rl_prompts: int | None = None


SCALES = {"full": Scale(), "small": Scale(clips=96, test_clips=8, sft_steps=20, rl_steps=4, rl_prompts=8)}
"""`small` shows that everything runs together, in some minutes; nothing is learnt there."""


def plan(out: Path, scale: Scale) -> list[Stage]:
    """The stages in order."""
    corpus, init = out / "corpus", out / "init"
    sft, rl = out / "sft", out / "rl"
    sft_steps = [] if scale.sft_steps is None else [f"preset.sft.steps={scale.sft_steps}"]
    rl_sizes = {"steps": scale.rl_steps, "prompts_per_step": scale.rl_prompts}
    rl_sizes = [f"preset.{key}={value}" for key, value in rl_sizes.items() if value is not None]
    return [
        Stage(
            "data",
            "MER-Micro, synthetic corpus",
            ("-m", "data_prep", "micro", *_options(out=corpus, clips=scale.clips, test_clips=scale.test_clips)),
            folder=corpus,
            result=corpus / "shards" / "test.parquet",
            watch=progress.clips(corpus, scale.clips + scale.test_clips),
        ),
        Stage(
            "init",
            "tiny Thinker, untrained",
            ("-m", "verl_ext.models.tiny", *_options(shards=corpus / "shards" / "sft.parquet", out=init)),
            folder=init,
            result=init / "config.json",
            after=("data",),
        ),
        Stage(
            "sft",
            "supervised fine-tuning",
            ("-m", "recipe.mer_r1.main_sft", *sft_steps, *_paths(out, sft, ("sft",))),
            folder=sft,
            result=sft / "model" / "config.json",
            after=("init",),
            conf=_SFT_CONF,
            watch=progress.sft(sft),
        ),
        _evaluation("eval_sft", "evaluation before RL", out, sft, "sft", scale),
        Stage(
            "rl",
            "reinforcement learning",
            # The evaluation before RL has just done what verl's first validation would do.
            ("-m", "recipe.mer_r1.main_ppo", *rl_sizes, *_paths(out, rl, ()), "trainer.val_before_train=false"),
            folder=rl,
            result=rl / "model" / "config.json",
            after=("sft",),
            conf=_RL_CONF,
            watch=progress.rl(rl, OmegaConf.load(_PRESET).steps if scale.rl_steps is None else scale.rl_steps),
        ),
        _evaluation("eval_rl", "evaluation after RL", out, rl, "rl", scale),
    ]


def _evaluation(name: str, title: str, out: Path, trained: Path, after: str, scale: Scale) -> Stage:
    folder = out / name
    answers = folder / "mer_micro"
    options = _options(model=trained / "model", data=out / "corpus" / "shards" / "test.parquet", out=folder)
    return Stage(
        name,
        title,
        ("-m", "recipe.mer_r1.main_eval", "run", *options, "--mode", ",".join(_FORMS)),
        folder=folder,
        result=answers / "scores.json",
        after=(after,),
        conf=(_PRESET,),
        watch=progress.answers(answers, len(_FORMS) * scale.test_clips),
    )


def _options(**options: object) -> Iterator[str]:
    for name, value in options.items():
        yield f"--{name.replace('_', '-')}"
        yield str(value)


def _paths(out: Path, run_dir: Path, node: Sequence[str]) -> list[str]:
    """Overrides for a run: its folder, and the preset's paths where they are not those of `out`."""
    overrides = [f"run_dir={run_dir}"]
    if out != DEFAULT_OUT:
        preset = OmegaConf.to_container(OmegaConf.load(_PRESET), resolve=False)
        sft = preset.pop("sft")
        overrides += _moved({"sft": sft} if node else preset, "preset", out)
    return overrides


def _moved(value: Any, key: str, out: Path) -> Iterator[str]:
    """An override for every path below the default folder."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _moved(item, f"{key}.{name}", out)
    elif isinstance(value, list) and any(_is_path(item) for item in value):
        yield f"{key}=[{','.join(_move(item, out) for item in value)}]"
    elif _is_path(value):
        yield f"{key}={_move(value, out)}"


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(f"{DEFAULT_OUT}/")


def _move(value: Any, out: Path) -> str:
    return str(out / Path(value).relative_to(DEFAULT_OUT)) if _is_path(value) else str(value)
