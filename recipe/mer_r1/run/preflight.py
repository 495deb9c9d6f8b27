"""Checks before any worker starts: shards, media, model folder, prompt lengths, shared memory, ports.

Every message names the file, the row or the key, and the way out.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Sequence
from dataclasses import fields
from importlib.util import find_spec

from omegaconf import DictConfig

from recipe.mer_r1.method.advantage import TermError
from recipe.mer_r1.method.answer import FORMS, ask_for
from recipe.mer_r1.method.experiments import estimator_of, load_estimators, reads_confidence
from recipe.mer_r1.method.reward import Scores
from recipe.mer_r1.method.token_sets import SHARED_TOKENS
from recipe.mer_r1.method.wheel import EmotionWheels, WheelError, load_wheels
from recipe.mer_r1.run import machine, on_policy, output, trackers
from recipe.mer_r1.run.form import FormError, check_model_form
from recipe.mer_r1.run.inputs import PreflightError, check_model_folder
from recipe.mer_r1.run.modes import ModeError, check_mode
from recipe.mer_r1.run.unsupported import UnsupportedError, check_shared_prompt_attention, check_unsupported
from verl_ext.models.settings import TOWERS

# Rows that are fully encoded before a run: enough to catch a wrong limit or a broken processor in seconds.
ENCODED_ROWS = 4


def check_loggers(config: DictConfig) -> None:
    """What ``trainer.logger`` names is known and installed; verl would find out when the model is loaded."""
    wrong = trackers.check(
        config.trainer.logger if isinstance(config.trainer.logger, str) else [*config.trainer.logger]
    )
    if wrong:
        raise PreflightError(wrong)


def check_form(form: str, key: str) -> None:
    """The form of a response exists."""
    if form not in FORMS:
        raise PreflightError(f"{key}={form}: unknown response form; use one of {', '.join(FORMS)}.")


def check_towers(frozen: Sequence[str]) -> None:
    """The encoders to leave as they are exist."""
    unknown = sorted(set(frozen) - set(TOWERS))
    if unknown:
        raise PreflightError(
            f"preset.frozen_towers={list(frozen)}: unknown tower {unknown[0]}; use {', '.join(TOWERS)}."
        )


def shared_memory_mb(preset: DictConfig) -> int:
    """What a run of the preset needs in /dev/shm: a bucket of weights a rank and one for vLLM, and room for Ray.

    On GPUs weights travel by CUDA IPC.
    """
    buckets = preset.rollout.weight_bucket_mb * (preset.ranks_per_node + 1) if preset.device == "cpu" else 0
    return buckets + 512


def check_shared_memory(needed_mb: int) -> None:
    """Weights travel to vLLM through /dev/shm on machines without CUDA IPC; Ray's object store lives there too."""
    if os.path.isdir("/dev/shm"):
        free_mb = shutil.disk_usage("/dev/shm").free >> 20
        if free_mb < needed_mb:
            raise PreflightError(
                f"/dev/shm has {free_mb} MiB free, but the run needs {needed_mb} MiB. Delete files there (ls -la "
                "/dev/shm), enlarge it (mount -o remount,size=8G /dev/shm; docker run --shm-size=8g), or lower "
                "preset.rollout.weight_bucket_mb."
            )


def check_visible_devices() -> None:
    """The variables that choose GPUs agree; Ray and verl would end with a traceback in their own code."""
    if fault := machine.visible_devices_fault(os.environ):
        raise PreflightError("{}. How to fix it: {}.".format(*fault))


def check_loopback() -> None:
    """Ray, vLLM and TransferQueue talk over TCP on this machine."""
    try:
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
    except OSError as error:
        raise PreflightError(
            f"cannot open a TCP port on 127.0.0.1: {error}. Workers need it to communicate; allow local connections."
        ) from error


def check_shards(config: DictConfig) -> None:
    """Every row's columns and files, then a few rows through the processor, each form's prefix included."""
    from verl.utils import hf_processor

    from verl_ext.data.dataset import ShardError, build_messages, join, load_clips
    from verl_ext.data.encode import MediaConfig, PromptEncoder
    from verl_ext.data.media import MediaError

    if list(config.data.train_files) == list(config.data.val_files):
        raise PreflightError(
            "data.val_files and data.train_files are the same: a run must not validate on its training clips. "
            "Set preset.val_files to another shard."
        )
    media = MediaConfig.from_config(config.data.media)
    model = config.actor_rollout_ref.model.path
    try:
        processor = hf_processor(model)
    except OSError as error:
        raise PreflightError(f"preset.model_path={model}: its processor cannot be loaded: {error}") from error
    if processor is None:
        raise PreflightError(
            f"preset.model_path={model}: the processor cannot be loaded. Copy the files of the original model there."
        )
    encoder = PromptEncoder(processor, media, cache_size=0)
    limit = config.data.max_prompt_length
    prefixes = [*config.data.response_prefixes.train.values(), *config.data.response_prefixes.val.values()]
    longest_prefix = max(len(processor.tokenizer.encode(prefix, add_special_tokens=False)) for prefix in prefixes)
    special = processor.tokenizer.all_special_tokens
    for key in ("train_files", "val_files"):
        try:
            paths = list(config.data[key])
            shards = [load_clips(path, config.data.media_root, media.use_audio_in_video) for path in paths]
            join(shards, paths)
            for path, shard in zip(paths, shards, strict=True):
                step = max(1, len(shard) // ENCODED_ROWS)
                for index, row in enumerate(shard.select_columns(["prompt", "videos", "audios"])):
                    _check_prompt(row["prompt"], f"{path} row {index}", config.data.form, special)
                    if index % step:
                        continue
                    length = len(encoder(build_messages(row)).prompt_ids) + longest_prefix
                    if length > limit:
                        raise ShardError(
                            f"{path} row {index}: the prompt has {length} tokens, over data.max_prompt_length={limit}. "
                            "Raise preset.max_prompt_length, or lower preset.media.fps, max_frames or max_pixels."
                        )
        except (ShardError, MediaError) as error:
            raise PreflightError(f"data.{key}: {error}") from error


def _check_prompt(prompt: list[dict[str, str]], where: str, form: str, special: Sequence[str]) -> None:
    """A prompt can ask for the form and holds no special token of the model's tokenizer; else a ShardError."""
    from verl_ext.data.dataset import ShardError
    from verl_ext.data.prompt_text import check_text

    try:
        ask_for(form, prompt[-1]["content"])
        for message in prompt:
            check_text(message["content"], "`prompt`", placeholders=False, tokens=special)
    except ValueError as error:
        raise ShardError(f"{where}: {error}") from error


def check_reward(config: DictConfig) -> EmotionWheels:
    """The wheels can be read, and the weighted scores exist; returns the wheels."""
    known = [field.name for field in fields(Scores)]
    unknown = sorted(set(config.mer_r1.reward) - set(known))
    if unknown:
        raise PreflightError(f"mer_r1.reward (experiment.reward) has unknown scores {unknown}; use {', '.join(known)}.")
    try:
        return load_wheels(config.mer_r1.wheels.folder)
    except WheelError as error:
        raise PreflightError(f"mer_r1.wheels.folder: {error}") from error


def check_settings(config: DictConfig) -> None:
    """Values of ``mer_r1`` that no library checks."""
    confidence = config.mer_r1.confidence
    if confidence.shared_tokens not in SHARED_TOKENS:
        raise PreflightError(
            f"mer_r1.confidence.shared_tokens={confidence.shared_tokens}: choose one of {', '.join(SHARED_TOKENS)}."
        )
    if not isinstance(confidence.shuffle, bool):
        raise PreflightError(f"mer_r1.confidence.shuffle={confidence.shuffle}: choose true or false.")
    if isinstance(confidence.floor, bool) or not isinstance(confidence.floor, int | float) or confidence.floor >= 0:
        raise PreflightError(f"mer_r1.confidence.floor={confidence.floor}: give a negative number of nats, e.g. -20.")
    for name, unit in (("min_thought_tokens", "tokens"), ("kept_features_mib", "MiB")):
        value = config.mer_r1[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise PreflightError(f"mer_r1.{name}={value}: give a whole number of {unit}, 0 or more.")


def check_terms(config: DictConfig) -> None:
    """The advantage can be made: its terms name known signals, and nothing is asked for that they would ignore."""
    try:
        chosen = estimator_of(config)
    except TermError as error:
        key = "" if str(error).startswith("mer_r1.") else "experiment.terms: "
        raise PreflightError(f"{key}{error}") from error
    algorithm = config.algorithm
    name = algorithm.adv_estimator
    if chosen is None:
        if not config.mer_r1.plugins:  # which may register estimators of their own
            _check_verl_estimator(name)
        return
    for key, ignored in (("use_kl_in_reward", True), ("norm_adv_by_std_in_grpo", False)):
        if algorithm.get(key, not ignored) == ignored:
            raise PreflightError(
                f"algorithm.{key}={str(ignored).lower()}: the advantage terms of {name} ignore this key. Remove it, "
                "or choose one of verl's own estimators (algorithm.adv_estimator=grpo)."
            )
    given = {form: prefix for form, prefix in config.data.response_prefixes.train.items() if prefix}
    if given and reads_confidence(config):
        raise PreflightError(
            f"data.response_prefixes.train has {given}: for slow-fast confidence the model must sample the complete "
            "response. Leave the prefix empty, or choose an experiment without calibration."
        )


def _check_verl_estimator(name: str) -> None:
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY

    known = sorted({*ADV_ESTIMATOR_REGISTRY, *load_estimators()})
    if name not in known:
        raise PreflightError(f"algorithm.adv_estimator={name}: unknown estimator; use one of {', '.join(known)}.")
    if name == "gdpo":
        raise PreflightError(
            "algorithm.adv_estimator=gdpo: verl's V1 trainers do not pass the reward components to it. "
            "Use experiment=gdpo, which computes the same advantage."
        )


def check_labels(config: DictConfig, wheels: EmotionWheels) -> None:
    """Labels are lists of words; says how many rows have none that a wheel knows: their responses can earn nothing."""
    from verl_ext.data.dataset import load_shard

    for key in ("train_files", "val_files"):
        for path in config.data[key]:
            unmapped = 0
            shard = load_shard(path, media_root=config.data.media_root)
            for index, row in enumerate(shard.select_columns(["reward_model"])):
                labels = row["reward_model"].get("ground_truth")
                if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
                    raise PreflightError(
                        f"data.{key}: {path} row {index}: reward_model.ground_truth is {labels!r}, but it must be a "
                        "non-empty list of words (docs/data.md)."
                    )
                unmapped += not wheels.mask(labels)
            if unmapped:
                output.say(f"data.{key}: {path}: in {unmapped} rows no label is on a wheel; their recall reward is 0.")


def check_micro_batches(config: DictConfig) -> None:
    """All ranks get as many responses, and micro-batches are of some tokens, or of responses that divide them."""
    ranks = config.trainer.n_gpus_per_node * config.trainer.nnodes
    responses = config.actor_rollout_ref.actor.ppo_mini_batch_size * config.actor_rollout_ref.rollout.n
    if responses % ranks:
        raise PreflightError(
            f"{responses} responses (preset.prompts_per_step × responses_per_prompt) do not divide among {ranks} ranks."
        )
    micro, tokens = config.preset.micro_batch_size, config.preset.micro_batch_tokens
    if tokens is None and responses // ranks % micro:
        raise PreflightError(
            f"preset.micro_batch_size={micro} does not divide the {responses // ranks} responses per rank "
            "(preset.prompts_per_step × responses_per_prompt / ranks). Lower it to a divisor."
        )
    if tokens is not None and (not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1):
        raise PreflightError(
            f"preset.micro_batch_tokens={tokens}: give a whole number from 1, or null to count responses "
            "(preset.micro_batch_size)."
        )
    if config.preset.kept_forwards < 0:
        raise PreflightError(f"preset.kept_forwards={config.preset.kept_forwards}: give 0 or more micro-batches.")


def check_ppo(config: DictConfig) -> None:
    """Everything that can be known before Ray starts."""
    if config.trainer.save_freq < 1:
        raise PreflightError(
            "preset.save_every must be 1 or more, because the model is exported from the last checkpoint."
        )
    check_visible_devices()
    check_micro_batches(config)
    check_form(config.data.form, "experiment.form")
    check_towers(config.preset.frozen_towers)
    check_loggers(config)
    for module in config.mer_r1.plugins:
        if find_spec(module) is None:
            raise PreflightError(f"mer_r1.plugins: there is no module {module!r}; add its folder to PYTHONPATH.")
    check_settings(config)
    check_terms(config)
    try:
        check_unsupported(config)
        check_shared_prompt_attention(config)
        check_mode(config)
        check_model_form(config)
        on_policy.check(config)
    except (FormError, ModeError, UnsupportedError, on_policy.OldLogProbsError) as error:
        raise PreflightError(str(error)) from error
    wheels = check_reward(config)
    check_model_folder(config.preset.model_path, "preset.model_path")
    check_loopback()
    if config.preset.device == "cpu":
        check_shared_memory(shared_memory_mb(config.preset))
    check_shards(config)
    check_labels(config, wheels)
