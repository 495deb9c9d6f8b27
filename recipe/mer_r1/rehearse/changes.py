"""What a rehearsal changes of a preset, as data: each key with its value and the reason. All else stays as it is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

RANKS = 2
STEPS = 2
MICRO_BATCHES = 2
"""Per rank and step, so that gradients are accumulated as on the real machines."""
BUCKET_MB = 160
"""The largest tensor, the embedding of 152,064 tokens × 256 in fp32, has 149 MiB."""

_FILES = "made by the rehearsal"
_NO_GPU = "there is no GPU"
_FITS = "as many as a laptop has room for"
_SOON = "so that it happens within the rehearsal"


@dataclass(frozen=True)
class Change:
    """A key of the configuration that a rehearsal sets.

    Attributes:
        key: dotted; of both trees (SFT and RL), or of one.
        value: None is null.
        why: for the reader.
        yields: whether the user's own value of the key wins.
        keeps: whether `value` is the real run's, and another change would change it.
    """

    key: str
    value: Any
    why: str
    yields: bool = False
    keeps: bool = False

    @property
    def override(self) -> str:
        """For the command line; ``++`` also adds a key that the preset has not."""
        value = (
            "null" if self.value is None else str(self.value).lower() if isinstance(self.value, bool) else self.value
        )
        return f"++{self.key}={value}"


@dataclass(frozen=True)
class Places:
    """Where a rehearsal keeps its files."""

    out: Path

    @property
    def corpus(self) -> Path:
        return self.out / "corpus"

    @property
    def train(self) -> Path:
        return self.out / "shards" / "train"

    @property
    def test(self) -> Path:
        return self.out / "shards" / "test"

    @property
    def model(self) -> Path:
        return self.out / "init"

    @property
    def sft(self) -> Path:
        return self.out / "sft"

    @property
    def rl(self) -> Path:
        return self.out / "rl"

    @property
    def export(self) -> Path:
        return self.out / "export"

    @property
    def serve(self) -> Path:
        return self.out / "serve"


def preset_changes(config: DictConfig, places: Places, most_ranks: int = RANKS) -> list[Change]:
    """Changes of the node `preset`, which both trees have; `config` is the real one of RL."""
    preset = config.preset
    rollout_ranks = config.mode.get("rollout_ranks_per_node", 0)  # where the mode has a pool of its own for them
    ranks = min(most_ranks, preset.nnodes * preset.ranks_per_node)
    prompts = prompts_per_step(preset, ranks)
    responses = prompts * preset.responses_per_prompt // ranks
    sft_batch = min(preset.sft.batch_size, MICRO_BATCHES * preset.sft.micro_batch_size * ranks)
    return [
        Change("preset.device", "cpu", _NO_GPU),
        Change("preset.nnodes", 1, "ranks are processes of this machine, which talk by gloo"),
        Change("preset.ranks_per_node", ranks, "two show sharding; each needs memory"),
        Change("preset.ray.num_cpus", 16, "logical: Ray's actors reserve whole CPUs"),
        Change("preset.ray.num_gpus", ranks + rollout_ranks, "logical: each rank counts as one"),
        Change("preset.rollout.sleep", False, "vLLM has no sleep mode on a CPU"),
        Change("preset.rollout.eager", True, "CUDA graphs need a GPU"),
        Change("preset.rollout.chunked_prefill", False, "on a CPU, vLLM cannot split a seeded request"),
        Change("preset.rollout.weight_bucket_mb", BUCKET_MB, "through /dev/shm; it holds the largest tensor", True),
        Change("preset.model_path", places.sft / "model", _FILES),
        Change("preset.train_files", places.train / "rl.parquet", _FILES, True),
        Change("preset.val_files", places.test / "test.parquet", _FILES, True),
        Change("preset.media_root", None, _FILES, True),
        Change("preset.sft.model_path", places.model, "few layers and small widths, random (see below)"),
        Change("preset.sft.train_files", places.train / "sft.parquet", _FILES, True),
        Change("preset.prompts_per_step", prompts, f"{responses} responses per rank", True),
        Change("preset.sft.batch_size", sft_batch, f"{sft_batch // ranks} per rank, in micro-batches as set", True),
        Change("preset.steps", STEPS, "one before and one after a resume", True),
        Change("preset.sft.steps", STEPS, "a rehearsal does not train", True),
        Change("preset.sft.epochs", None, "its length is set in steps", True),
        Change("preset.validate_every", STEPS, _SOON, True),
        Change("preset.save_every", 1, _SOON, True),
        Change("preset.sft.save_every", 1, _SOON, True),
        Change("preset.val_clips", 2, "a rehearsal does not measure", True),
        Change("preset.agent_workers", 1, _FITS, True),
        Change("preset.reward_workers", 1, _FITS, True),
        Change("preset.storage_units", 1, _FITS, True),
        Change("preset.sft.workers", 1, _FITS, True),
    ]


def rl_changes(config: DictConfig) -> list[Change]:
    """Of RL's tree alone; the real value is the same unless the user has set another one.

    In the update, each response is a micro-batch; in the log-prob passes, whole groups are, as in the real run.
    """
    found = [
        Change("trainer.val_before_train", True, "it stops the run after the first step that follows a validation"),
        Change("mer_r1.shared_prompt_attention", "sdpa", "FlexAttention has no backward pass on a CPU"),
    ]
    if config.preset.micro_batch_tokens is None:
        return found
    roles = config.actor_rollout_ref
    limits = {"rollout": roles.rollout, "ref": roles.ref}
    return [
        *found,
        Change("actor_rollout_ref.actor.ppo_max_token_len_per_gpu", 1, "one response each: gradients are accumulated"),
        *(
            Change(
                f"actor_rollout_ref.{role}.log_prob_max_token_len_per_gpu",
                node.log_prob_max_token_len_per_gpu,
                "does not follow the update's",
                keeps=True,
            )
            for role, node in limits.items()
        ),
    ]


RUN_DIR = "the rehearsal's own folder"


def prompts_per_step(preset: DictConfig, ranks: int) -> int:
    """The fewest prompts that give each rank two micro-batches or more; at most the preset's."""
    group = preset.responses_per_prompt
    micro = preset.micro_batch_size if preset.micro_batch_tokens is None else 1  # see rl_changes
    for prompts in range(1, preset.prompts_per_step):
        per_rank, rest = divmod(prompts * group, ranks)
        if not rest and per_rank % micro == 0 and per_rank >= MICRO_BATCHES * micro:
            return prompts
    return preset.prompts_per_step


def chosen(changes: list[Change], user_keys: Collection[str]) -> list[Change]:
    """Without those that yield to a key that the user has set."""
    return [change for change in changes if not (change.yields and change.key in user_keys)]
