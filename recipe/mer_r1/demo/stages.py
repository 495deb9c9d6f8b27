"""What the demo does, stage by stage: each is a command that a user may type, with what it reads and writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from data_prep.micro.sizes import SIZES
from recipe.mer_r1.eval.answer_modes import MODES
from recipe.mer_r1.pipeline import progress
from recipe.mer_r1.pipeline.stage import Stage
from recipe.mer_r1.run.launch import CONF

DEFAULT_OUT = Path("outputs/demo")
"""Where conf/preset/tiny.yaml expects the demo's files; for another folder the commands name every path."""
ROWS = ("baseline", "mer_r1")
"""The experiments: RL from the same model and the same prompts."""
ROLLOUTS = "rollouts"
"""Folder in that of a run of RL, with the batch of each step."""
MODELS = ("sft", *ROWS)
"""What is evaluated."""
_PRESET = CONF / "preset" / "tiny.yaml"


@dataclass(frozen=True)
class Scale:
    """How large a demo is; None leaves a number to the command's or preset's own default.

    Attributes:
        seed: of the corpus and of all training. The demo's settings were chosen on seed 0.
        samples: sampled answers per test clip and form.
        validate: whether RL validates after its last step, which gives the numbers of its evaluation once more.
    """

    seed: int = 1
    clips: int | None = None
    test_clips: int = SIZES[2]["demo"].test_clips
    base_clips: int | None = None
    samples: int = 4
    base_steps: int | None = None
    sft_steps: int | None = None
    rl_steps: int | None = None
    rl_prompts: int | None = None
    validate: bool = False

    @property
    def all_clips(self) -> int:
        """Clips that are rendered."""
        size = SIZES[2]["demo"]
        return (self.clips or size.clips) + self.test_clips + (self.base_clips or size.base_clips)

    @property
    def answers(self) -> int:
        """Answers to the test clips by one model."""
        return 2 * self.test_clips * (1 + self.samples)


SCALES = {
    "full": Scale(),
    # Shows that everything runs together, in some minutes; nothing is learnt there.
    "small": Scale(
        clips=48,
        test_clips=8,
        base_clips=16,
        samples=2,
        base_steps=10,
        sft_steps=10,
        rl_steps=3,
        rl_prompts=8,
        validate=True,
    ),
}


def plan(out: Path, scale: Scale) -> list[Stage]:
    """The stages in order."""
    corpus, init = out / "corpus", out / "init"
    sizes = {"clips": scale.clips, "test_clips": scale.test_clips, "base_clips": scale.base_clips, "seed": scale.seed}
    return [
        Stage(
            "data",
            "MER-Micro, synthetic corpus",
            ("-m", "data_prep", "micro", *_options(out=corpus, **{k: v for k, v in sizes.items() if v is not None})),
            folder=corpus,
            result=corpus / "shards" / "test.parquet",
            watch=progress.clips(corpus, scale.all_clips),
        ),
        Stage(
            "init",
            "tiny Thinker, untrained",
            ("-m", "verl_ext.models.tiny", *_options(shards=corpus / "shards" / "sft.parquet", out=init)),
            folder=init,
            result=init / "config.json",
            after=("data",),
        ),
        _supervised("base", "base model: direct answers", out, scale, scale.base_steps, after="init"),
        _supervised("sft", "supervised fine-tuning", out, scale, scale.sft_steps, after="base"),
        _evaluation("sft", out, scale),
        *(stage for row in ROWS for stage in (_reinforcement(row, out, scale), _evaluation(row, out, scale))),
    ]


def _supervised(name: str, title: str, out: Path, scale: Scale, steps: int | None, after: str) -> Stage:
    folder, start = out / name, out / after / ("model" if after != "init" else "")
    paths = {"model_path": start, "train_files": out / "corpus" / "shards" / f"{name}.parquet"}
    moved = [f"preset.sft.{key}={path}" for key, path in paths.items()] if out != DEFAULT_OUT else []
    stage = [f"stage={name}"] if name != "sft" else []
    sizes = [] if steps is None else [f"preset.sft.steps={steps}"]
    return Stage(
        name,
        title,
        ("-m", "recipe.mer_r1.main_sft", *stage, f"run_dir={folder}", f"preset.seed={scale.seed}", *sizes, *moved),
        folder=folder,
        result=folder / "model" / "config.json",
        after=(after,),
        conf=(CONF / "sft.yaml", _PRESET, CONF / "stage" / f"{name}.yaml"),
        watch=progress.sft(folder),
    )


def _reinforcement(row: str, out: Path, scale: Scale) -> Stage:
    folder, shards = out / row, out / "corpus" / "shards"
    paths = {"model_path": out / "sft" / "model", "train_files": shards / "rl.parquet"}
    paths["val_files"] = shards / "test.parquet"
    moved = [f"preset.{key}={path}" for key, path in paths.items()] if out != DEFAULT_OUT else []
    sizes = {"steps": scale.rl_steps, "prompts_per_step": scale.rl_prompts}
    sizes = [f"preset.{key}={value}" for key, value in sizes.items() if value is not None]
    # verl's validations before and after RL would do what the evaluations do. The rollouts are for `replay` and
    # `explain`; about 14 MB for a run.
    sizes += ["trainer.val_before_train=false", *([] if scale.validate else ["preset.validate_every=-1"])]
    command = [f"experiment={row}", f"run_dir={folder}", f"preset.seed={scale.seed}", *sizes, *moved]
    command += [f"trainer.rollout_data_dir={folder / ROLLOUTS}"]
    return Stage(
        row,
        f"reinforcement learning: {row}",
        ("-m", "recipe.mer_r1.main_ppo", *command),
        folder=folder,
        result=folder / "model" / "config.json",
        after=("sft",),
        conf=(CONF / "ppo.yaml", _PRESET, CONF / "experiment" / f"{row}.yaml"),
        watch=progress.rl(folder, scale.rl_steps or OmegaConf.load(_PRESET).steps),
    )


def _evaluation(model: str, out: Path, scale: Scale) -> Stage:
    folder = out / f"eval_{model}"
    answers = folder / "mer_micro"
    options = _options(model=out / model / "model", data=out / "corpus" / "shards" / "test.parquet", out=folder)
    return Stage(
        f"eval_{model}",
        f"evaluation: {model}",
        ("-m", "recipe.mer_r1.main_eval", "run", *options, "--mode", ",".join(MODES), "--samples", str(scale.samples)),
        folder=folder,
        result=answers / "scores.json",
        after=(model,),
        conf=(_PRESET,),
        watch=progress.answers(answers, scale.answers),
        light=True,
    )


def _options(**options: object) -> Iterator[str]:
    for name, value in options.items():
        yield f"--{name.replace('_', '-')}"
        yield str(value)
