"""The commands of the ablation: for each start and each run its stages, and the settings that decide their results."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from recipe.mer_r1.ablation import settings
from recipe.mer_r1.ablation.table import SFT, Table
from recipe.mer_r1.eval.confidence_files import FORMS, confidence_path
from recipe.mer_r1.method.answer import ONE_ANSWER
from recipe.mer_r1.pipeline import progress
from recipe.mer_r1.pipeline.stage import Stage

CORPUS = "mer_micro"
"""Folder that `main_eval run` makes for MER-Micro's clips."""


@dataclass(frozen=True)
class Run:
    """A run (RL of a row on a seed) or a start (SFT on a seed); it ends in a record.

    Attributes:
        name: ROW-SEED, of its record.
        row: of the table; "sft" or "sft_START" for a start.
        experiment: None for a start.
        overrides: of `main_ppo`, or `main_sft` for a start, beside paths and the seed.
        settings: all that decides the results, independent of the machine.
        stages: in order.
        optional: names of stages whose failure leaves numbers out, and does not fail the run.
        sft_model: the SFT model, of a start its own.
        modes: in which the test clips are answered.
        trained, answers: folders of the training run and of `main_eval run`'s answers.
    """

    name: str
    row: str
    seed: int
    experiment: str | None
    start: str
    overrides: tuple[str, ...]
    settings: dict[str, Any]
    stages: tuple[Stage, ...]
    optional: tuple[str, ...]
    modes: tuple[str, ...]
    sft_model: Path
    trained: Path
    answers: Path

    @cached_property
    def settings_sha256(self) -> str:
        """Fingerprint of the settings."""
        return settings.fingerprint(self.settings)


class Plan:
    """All runs and starts of a table, with everything they write below `out`."""

    def __init__(self, table: Table, out: Path):
        self.table, self.out = table, out
        self._sft_preset, self._rl_preset = settings.of_sft(table.preset), settings.of_rl(table.preset)
        self._on_cpu = self._rl_preset["device"] == "cpu"

    @property
    def jobs(self) -> int:
        """Commands at a time: one for two cores. A command takes all GPUs that it finds."""
        return max(1, (os.cpu_count() or 1) // 2) if self._on_cpu else 1

    # ---------------------------------------------------------------- what is shared

    def corpus(self, name: str) -> Stage:
        """Making a corpus."""
        folder = self._corpus(name)
        options = self.table.corpora[name].model_dump(exclude_none=True)
        counts = [options.get(key) for key in ("clips", "test_clips", "base_clips")]
        total = 0 if None in counts else sum(counts)
        return Stage(
            f"corpus-{name}",
            f"corpus {name}",
            ("-m", "data_prep", "micro", *_options(out=folder, **options)),
            folder=folder,
            result=folder / "shards" / "test.parquet",
            settings=settings.fingerprint(options),
            watch=progress.clips(folder, total) if total else progress.nothing,
        )

    def base(self, name: str, seed: int) -> list[Stage]:
        """The untrained model, and the stage that stands for pretraining where there is one."""
        base, folder = self.table.bases[name], self.out / "bases" / f"{name}-{seed}"
        shards = self._corpus(base.corpus) / "shards"
        init = Stage(
            f"init-{name}-{seed}",
            f"init {name} {seed}",
            ("-m", "verl_ext.models.tiny", *_options(shards=shards / "sft.parquet", out=folder / "init", seed=seed)),
            folder=folder / "init",
            result=folder / "init" / "config.json",
            after=(f"corpus-{base.corpus}",),
        )
        if base.stage is None:
            return [init]
        overrides = [*self.table.common.base, *base.overrides]
        command = self._sft(
            folder / "base", seed, folder / "init", shards / "base.parquet", [f"stage={base.stage}", *overrides]
        )
        return [init, self._training(f"base-{name}-{seed}", base.stage, command, folder / "base", init.name)]

    def _sft(self, run_dir: Path, seed: int, model: Path, shard: Path, overrides: list[str]) -> tuple[str, ...]:
        return (
            *("-m", "recipe.mer_r1.main_sft", f"preset={self.table.preset}", f"run_dir={run_dir}"),
            *(f"preset.seed={seed}", f"preset.sft.model_path={model}", f"preset.sft.train_files={shard}", *overrides),
        )

    def _training(self, name: str, stage: str | None, command: tuple[str, ...], folder: Path, *after: str) -> Stage:
        return Stage(
            name,
            name.replace("-", " "),
            command,
            folder=folder,
            result=folder / "model" / "config.json",
            after=after,
            settings=settings.fingerprint([self._sft_preset, settings.of_stage(stage)]),
            watch=progress.sft(folder),
        )

    # ---------------------------------------------------------------- starts and runs

    def start(self, name: str, seed: int) -> Run:
        """An SFT model and its evaluation."""
        start = self.table.starts[name]
        row = SFT if name == "default" else f"{SFT}_{name}"
        folder = self.out / "starts" / f"{name}-{seed}"
        *_, model = self.base(start.base, seed)
        overrides = [*self.table.common.sft, *start.overrides]
        shard = self._corpus(start.corpus) / "shards" / "sft.parquet"
        stage = SFT if self.table.bases[start.base].stage else None
        chosen = [f"stage={stage}"] if stage else []
        command = self._sft(folder / "sft", seed, model.result.parent, shard, [*chosen, *overrides])
        sft = self._training(f"sft-{name}-{seed}", stage, command, folder / "sft", model.name, f"corpus-{start.corpus}")
        form = _last(overrides, "data.form", ONE_ANSWER)
        evaluation = self._evaluation(f"{row}-{seed}", folder, folder / "sft", start.corpus, sft.name, form)
        return Run(
            name=f"{row}-{seed}",
            row=row,
            seed=seed,
            experiment=None,
            start=name,
            overrides=tuple(overrides),
            settings=self._start_settings(name, seed),
            stages=(sft, *evaluation),
            optional=tuple(stage.name for stage in evaluation[1:]),
            modes=tuple(self.table.evaluation.modes),
            sft_model=folder / "sft" / "model",
            trained=folder / "sft",
            answers=folder / "eval" / CORPUS,
        )

    def run(self, name: str, seed: int) -> Run:
        """RL of a row and its evaluation."""
        row = self.table.everything[name]
        start, folder = self.table.starts[row.start], self.out / "runs" / f"{name}-{seed}"
        shards = self._corpus(start.corpus) / "shards"
        sft = self.start(row.start, seed)
        overrides = [*self.table.common.rl, *row.overrides]
        command = (
            *("-m", "recipe.mer_r1.main_ppo", f"preset={self.table.preset}", f"experiment={row.experiment}"),
            *(f"run_dir={folder / 'rl'}", f"preset.seed={seed}", f"preset.model_path={sft.sft_model}"),
            *(f"preset.train_files={shards / 'rl.parquet'}", f"preset.val_files={shards / 'test.parquet'}"),
            # The start was evaluated already, and the trained model is evaluated next.
            *("trainer.val_before_train=false", "preset.validate_every=-1", *overrides),
        )
        experiment = settings.of_experiment(row.experiment)
        rl = Stage(
            f"rl-{name}-{seed}",
            f"rl {name} {seed}",
            command,
            folder=folder / "rl",
            result=folder / "rl" / "model" / "config.json",
            after=(sft.stages[0].name,),
            settings=settings.fingerprint([experiment, self._rl_preset]),
            # None: not known before the run (`preset.epochs`).
            watch=progress.rl(folder / "rl", _last(overrides, "preset.steps", self._rl_preset["steps"])),
        )
        evaluation = self._evaluation(
            f"{name}-{seed}", folder, folder / "rl", start.corpus, rl.name, experiment["form"]
        )
        return Run(
            name=f"{name}-{seed}",
            row=name,
            seed=seed,
            experiment=row.experiment,
            start=row.start,
            overrides=tuple(overrides),
            settings={
                "experiment": experiment,
                "overrides": overrides,
                "preset": self._rl_preset,
                "start": self._start_settings(row.start, seed),
            },
            stages=(rl, *evaluation),
            optional=tuple(stage.name for stage in evaluation[1:]),
            modes=tuple(self.table.evaluation.modes),
            sft_model=sft.sft_model,
            trained=folder / "rl",
            answers=folder / "eval" / CORPUS,
        )

    def stages_before(self, run: Run) -> list[Stage]:
        """Of others, which the run's own build on, in order: corpora, base, and for RL the SFT."""
        start = self.table.starts[run.start]
        base = self.table.bases[start.base]
        corpora = [self.corpus(name) for name in dict.fromkeys((base.corpus, start.corpus))]
        sft = [] if run.experiment is None else [self.start(run.start, run.seed).stages[0]]
        return [*corpora, *self.base(start.base, run.seed), *sft]

    def _start_settings(self, name: str, seed: int) -> dict[str, Any]:
        """All that decides the models and answers of a start."""
        start = self.table.starts[name]
        base = self.table.bases[start.base]
        return {
            "seed": seed,
            "preset": self._sft_preset,
            "base": base.model_dump() | {"corpus": self._corpus_settings(base.corpus)},
            "stages": {stage: settings.of_stage(stage) for stage in (base.stage, SFT) if base.stage},
            "base_overrides": self.table.common.base if base.stage else [],
            "corpus": self._corpus_settings(start.corpus),
            "overrides": [*self.table.common.sft, *start.overrides],
            "evaluation": self.table.evaluation.model_dump() | {"rollout": self._rl_preset["rollout"]},
        }

    def _corpus_settings(self, name: str) -> dict[str, Any]:
        return self.table.corpora[name].model_dump(exclude_none=True)

    def _corpus(self, name: str) -> Path:
        return self.out / "corpora" / name

    def _evaluation(self, name: str, folder: Path, trained: Path, corpus: str, after: str, form: str) -> list[Stage]:
        """Answers to the test clips, then the confidences of the greedy ones; answers before a thought have none."""
        chosen, out = self.table.evaluation, folder / "eval"
        shard = self._corpus(corpus) / "shards" / "test.parquet"
        options = _options(
            model=trained / "model",
            data=shard,
            out=out,
            preset=self.table.preset,
            mode=",".join(chosen.modes),
            **({"samples": chosen.samples} if chosen.samples > 1 else {}),
        )
        answers = Stage(
            f"eval-{name}",
            f"eval {name}",
            ("-m", "recipe.mer_r1.main_eval", "run", *options),
            folder=out,
            result=out / CORPUS / "scores.json",
            after=(after,),
            settings=settings.fingerprint([self._rl_preset["media"], self._rl_preset["rollout"]]),
            watch=progress.answers_to(out / CORPUS, shard, chosen.answers),
            light=self._on_cpu,
        )
        greedy = [form for form in FORMS if form in chosen.modes]
        if not greedy or form != ONE_ANSWER:
            return [answers]
        read = confidence_path(out / CORPUS / f"{greedy[-1]}.jsonl")
        confidence = Stage(
            f"confidence-{name}",
            f"confidence {name}",
            ("-m", "recipe.mer_r1.main_eval", "confidence", str(out / CORPUS), "--preset", self.table.preset),
            folder=read,
            result=read,
            after=(answers.name,),
            light=self._on_cpu,
        )
        return [answers, confidence]


def _last(overrides: list[str], key: str, default: Any) -> Any:
    """The value of a key in overrides, of which the last counts."""
    given = [one.lstrip("+").partition("=") for one in overrides]
    values = [OmegaConf.from_dotlist([f"value={value}"]).value for name, _, value in given if name == key]
    return values[-1] if values else default


def _options(**options: object) -> Iterator[str]:
    for name, value in options.items():
        yield f"--{name.replace('_', '-')}"
        yield str(value)
