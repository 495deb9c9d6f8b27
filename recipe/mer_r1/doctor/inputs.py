"""What a run reads: the preset, the wheels, the model folder, clips, voices."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from recipe.mer_r1.doctor import weights
from recipe.mer_r1.doctor.outcome import Check, Outcome, Subject, failed, of_message, ok, warning
from recipe.mer_r1.method.wheel import WheelError, load_wheels
from recipe.mer_r1.run import launch


def check_preset(subject: Subject) -> Outcome:
    """RL's whole configuration composes with the preset."""
    try:
        preset = subject.preset
    except (HydraException, OmegaConfBaseException) as error:
        known = ", ".join(sorted(file.stem for file in (launch.CONF / "preset").glob("*.yaml")))
        return failed(str(error), f"use one of {known} (conf/preset/); main_ppo --cfg job shows all keys")
    ranks = preset.nnodes * preset.ranks_per_node
    return ok(f"{subject.preset_name}: {ranks} rank(s) on {preset.device}, rollout in {preset.rollout.dtype}")


def check_wheels(subject: Subject) -> Outcome:
    """The emotion wheels can be read."""
    try:
        identity = load_wheels(subject.wheels).identity
    except WheelError as error:
        return failed(
            str(error), "give the folder with wheel1.xlsx … with --wheels, or remove --wheels (docs/wheels.md)"
        )
    seen = f"{identity['name']} ({identity['version']}), sha256 {identity['sha256'][:12]}"
    if subject.wheels is None:
        return ok(f"{seen}; not comparable with published numbers")
    return ok(seen)


def check_codecs(_: Subject) -> Outcome:
    """PyAV encodes and decodes H.264 with AAC in an mp4, and PCM in a wav, in memory."""
    from recipe.mer_r1.doctor.clip import FPS, RATE, SECONDS, made_mp4, made_wav
    from verl_ext.data.media import read_audio, read_video
    from verl_ext.data.source import ClipBytes

    mp4, wav = ClipBytes("made.mp4", made_mp4()), ClipBytes("made.wav", made_wav())
    frames = read_video(mp4, FPS, max_frames=64).frames_TCHW
    sounds = {"aac": read_audio(mp4, RATE), "pcm": read_audio(wav, RATE)}
    wanted = SECONDS * FPS
    if len(frames) != wanted or frames.float().std() < 1:
        seen = f"decoded {len(frames)} of {wanted} frames, or frames of one colour only"
        return failed(seen, "`pip install 'av>=18,<19'`")
    for name, sound in sounds.items():
        if abs(len(sound) - SECONDS * RATE) > 2048 or np.abs(sound).max() < 0.1:
            return failed(f"{name}: decoded {len(sound)} of {SECONDS * RATE} samples, or silence", "reinstall av")
    return ok(f"decoded h264 {tuple(frames.shape)}, aac {len(sounds['aac'])} and pcm {len(sounds['pcm'])} samples")


def check_ffmpeg(_: Subject) -> Outcome:
    """For information: nothing here calls the program."""
    path = shutil.which("ffmpeg")
    return ok(f"{path or 'not installed'} (not needed: PyAV contains the libraries)")


def check_espeak(_: Subject) -> Outcome:
    """MER-Micro's voice can be loaded."""
    from data_prep.micro import voice

    if not voice.espeak_available():
        return warning("not installed: MER-Micro would use tones instead of speech", '`pip install -e ".[demo]"`')
    return ok(voice.engine_version("espeak"))


def check_model(subject: Subject) -> Outcome:
    """The folder has config, weights, tokenizer and processor, of a Qwen2.5-Omni, and they load."""
    from recipe.mer_r1.run import preflight

    path, key = subject.model_path, "--model" if subject.model else "preset.model_path"
    if not Path(path).is_dir() and not subject.model:
        return warning(
            f"{key}={path}: no such folder yet", "train a model with main_sft (or `make demo`), or give --model DIR"
        )
    try:
        preflight.check_model_folder(path, key)
    except preflight.PreflightError as error:
        return of_message(str(error))
    problem = weights.fault(path)
    if problem:
        return failed(f"{key}={path}: {problem}", "copy or download the file again")
    return _load(path, key)


def _load(path: str, key: str) -> Outcome:
    from transformers import AutoConfig, AutoProcessor

    from verl_ext.models.processor import MODEL_TYPES, is_omni

    config = AutoConfig.from_pretrained(path)
    if config.model_type not in MODEL_TYPES:
        return failed(f"{key}={path}: the model type is {config.model_type}", "use a Qwen2.5-Omni folder")
    processor = AutoProcessor.from_pretrained(path)
    if not is_omni(processor):
        return failed(
            f"{key}={path}: its processor is a {type(processor).__name__}",
            "copy the processor files of the original model",
        )
    parameters = weights.thinker_parameters(path)
    if not parameters:
        return failed(
            f"{key}={path}: no weight has a name with `thinker.`", "use the complete checkpoint, not a part of it"
        )
    seen = f"{path}: {config.model_type}, {parameters / 1e6:.1f} M parameters in the Thinker"
    return ok(f"{seen}, {len(processor.tokenizer)} tokens")


PRESET = Check("preset", check_preset)
CHECKS = [
    Check("codecs", check_codecs),
    Check("ffmpeg", check_ffmpeg),
    Check("espeak-ng", check_espeak),
    Check("wheels", check_wheels),
    Check("model", check_model, needs_preset=True),
]
