"""The two pairs of configurations, real and rehearsed, and the stages that run the rehearsed ones."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from recipe.mer_r1.pipeline import progress
from recipe.mer_r1.pipeline.stage import Stage
from recipe.mer_r1.rehearse.changes import RANKS, RUN_DIR, Change, Places, chosen, preset_changes, rl_changes
from recipe.mer_r1.rehearse.difference import Difference, differences
from recipe.mer_r1.run import launch

SHARED = ("preset", "cluster")
"""Groups that both trees have; a key below them is for both, and any other key is RL's."""


@dataclass(frozen=True)
class Tree:
    """One configuration, real and rehearsed.

    Attributes:
        overrides: what makes the rehearsed one.
        found: all that differs.
    """

    name: str
    real: DictConfig
    rehearsed: DictConfig
    overrides: list[str]
    found: list[Difference]


def trees(user: Sequence[str], places: Places, ranks: int = RANKS) -> dict[str, Tree]:
    """Both trees, `ppo` and `sft`, with so many ranks at most.

    Wrong overrides end the program with exit code 2, as with `main_ppo`.

    Raises:
        UnexplainedError: something differs without a reason.
    """
    real = launch.check_overrides("ppo", list(user))
    changes = chosen(preset_changes(real, places, ranks), {_key(override) for override in user})
    shared = [override for override in user if _key(override).split(".")[0] in SHARED]
    return {
        "ppo": _tree("ppo", real, user, [*changes, *rl_changes(real), Change("run_dir", places.rl, RUN_DIR)]),
        "sft": _tree(
            "sft",
            launch.check_overrides("sft", shared),
            shared,
            [*changes, Change("run_dir", places.sft, RUN_DIR)],
        ),
    }


def _tree(name: str, real: DictConfig, user: Sequence[str], changes: Sequence[Change]) -> Tree:
    unresolved = launch.compose(name, [*user, *(change.override for change in changes)], resolve=False)
    rehearsed = copy.deepcopy(unresolved)
    OmegaConf.resolve(rehearsed)
    found = differences(real, rehearsed, unresolved, {change.key: change.why for change in changes})
    differing = {difference.key for difference in found}
    needed = [change.override for change in changes if change.keeps or change.key in differing]
    return Tree(name, real, rehearsed, [*user, *needed], found)


def _key(override: str) -> str:
    return override.split("=")[0].lstrip("+~")


def stages(both: dict[str, Tree], places: Places, layers: int) -> list[Stage]:
    """The stages in order; each is a command that a user may type."""
    preset = both["ppo"].rehearsed.preset
    of = both["sft"].real.preset.sft.model_path
    shards = places.train / "sft.parquet"
    rl_command = ("-m", "recipe.mer_r1.main_ppo", *both["ppo"].overrides)
    return [
        *_data(preset, places),
        Stage(
            "model",
            f"{of.rsplit('/', 1)[-1]} with {layers} layer(s), random",
            ("-m", "verl_ext.models.reduced", *_options(of=of, shards=shards, out=places.model, layers=layers)),
            folder=places.model,
            result=places.model / "config.json",
            after=("train_shards",),
        ),
        Stage(
            "sft",
            "supervised fine-tuning",
            ("-m", "recipe.mer_r1.main_sft", *both["sft"].overrides),
            folder=places.sft,
            result=places.sft / "model" / "config.json",
            after=("model",),
            conf=_conf("sft"),
            watch=progress.sft(places.sft),
        ),
        Stage(
            "rl_stopped",
            "RL, stopped after its first step",
            ("-m", "recipe.mer_r1.rehearse.until_stop", str(places.rl), *rl_command[1:]),
            folder=places.rl,
            result=places.rl / "checkpoints" / "global_step_1",
            after=("sft", "test_shards"),
            conf=_conf("ppo"),
            watch=progress.rl(places.rl, preset.steps, validates=True),
        ),
        Stage(
            "rl",
            "RL, the same command again",
            rl_command,
            folder=places.rl / "model",
            result=places.rl / "model" / "config.json",
            after=("rl_stopped",),
            conf=_conf("ppo"),
            watch=progress.rl(places.rl, preset.steps, validates=True),
        ),
        Stage(
            "export",
            "export",
            ("-m", "recipe.mer_r1.export", str(places.rl), "--out", str(places.export)),
            folder=places.export,
            result=places.export / "lineage.json",
            after=("rl",),
        ),
        Stage(
            "serve",
            "vllm serve, one request",
            ("-m", "recipe.mer_r1.rehearse.serve", *_serve(both["ppo"].rehearsed, places)),
            folder=places.serve,
            result=places.serve / "reply.txt",
            after=("export",),
        ),
    ]


def _data(preset: DictConfig, places: Places) -> Iterator[Stage]:
    media = preset.media
    sizes = {"frames": media.max_frames, "fps": media.fps, "pixels": media.max_pixels}
    options = _options(out=places.corpus, **sizes, sampling_rate=media.sampling_rate)
    yield Stage(
        "corpus",
        "clips of the largest size",
        ("-m", "recipe.mer_r1.rehearse.corpus", *options),
        folder=places.corpus,
        result=places.corpus / "mer2025-dataset" / "track2_train_mercaptionplus.csv",
    )
    build = ("-m", "data_prep", "build", "--root", str(places.corpus), "--corpus")
    yield Stage(
        "test_shards",
        "shard of OV-MERD+",
        (*build, "ov_merd_plus", "--out", str(places.test)),
        folder=places.test,
        result=places.test / "test.parquet",
        after=("corpus",),
    )
    yield Stage(
        "train_shards",
        "shards of MER-Caption+",
        (*build, "mer_caption_plus", *_options(out=places.train, sft=4, held_out=places.test / "test.parquet")),
        folder=places.train,
        result=places.train / "sft.parquet",
        after=("test_shards",),
    )


def _serve(config: DictConfig, places: Places) -> Iterator[str]:
    """As the rollout of the run is set, in the options of `vllm serve`."""
    rollout = config.actor_rollout_ref.rollout
    yield from _options(model=places.export, shard=places.test / "test.parquet", preset=config.preset.name)
    yield from _options(out=places.serve / "reply.txt", tokens=config.preset.max_response_length)
    yield "--"
    yield from _options(dtype=rollout.dtype, max_model_len=rollout.max_model_len, max_num_seqs=rollout.max_num_seqs)
    yield from _options(max_num_batched_tokens=rollout.max_num_batched_tokens)
    limits = dict(rollout.engine_kwargs.vllm.limit_mm_per_prompt)
    yield from _options(limit_mm_per_prompt=json.dumps(limits))
    yield "--enforce-eager"


def _conf(name: str) -> tuple[Path, ...]:
    """All of conf/ that can decide what `name` composes to."""
    return (launch.CONF / f"{name}.yaml", *sorted(launch.CONF.glob("*/*.yaml")))


def _options(**options: Any) -> Iterator[str]:
    for name, value in options.items():
        yield f"--{name.replace('_', '-')}"
        yield str(value)
