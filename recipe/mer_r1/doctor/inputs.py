"""What a run reads: the preset, the wheels, the model folder, clips, voices."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from recipe.mer_r1.doctor import sources, weights
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
        return ok(f"{seen}; not comparable with published numbers. The official wheels: {sources.WHEELS[0].page}")
    return ok(seen)


def check_shards(subject: Subject) -> Outcome:
    """The shards of SFT, RL and validation that the preset names are there and have rows."""
    from pyarrow import ArrowInvalid, parquet

    preset = subject.preset
    named = {
        "preset.sft.train_files": preset.sft.train_files,
        "preset.train_files": preset.train_files,
        "preset.val_files": preset.val_files,
    }
    rows, absent = {}, {}
    for key, path in named.items():
        if not Path(path).is_file():
            absent[key] = path
            continue
        try:
            rows[path] = parquet.read_metadata(path).num_rows
        except (ArrowInvalid, OSError) as error:
            return failed(f"{key}={path}: not a parquet file ({error})", "build it again with `data_prep build`")
        if not rows[path]:
            how = "build it with --sft 5000 or --sft all" if key == "preset.sft.train_files" else "build it again"
            return failed(f"{key}={path}: has no rows", how)
    if absent:
        key, path = next(iter(absent.items()))
        seen = "no such file yet: " + ", ".join(f"{key}={path}" for key, path in absent.items())
        return warning(seen, _how_to_get(path))
    return ok(", ".join(f"{path} {count:,} rows" for path, count in rows.items()))


def _how_to_get(shard: str) -> str:
    source = sources.of_shard(shard)
    if source is None:
        return "`make demo` makes the shards of the preset tiny; for others see docs/corpora.md"
    folder = Path(shard).parent
    return (
        f"download {source.name} from {source.where()}, then "
        f"`python -m data_prep build --corpus {source.name} --root DIR --out {folder}` (docs/sources.md)"
    )


def check_base_model(subject: Subject) -> Outcome:
    """The model that SFT starts from is a folder, or a hub's name whose files are in the cache."""
    path, key = subject.preset.sft.model_path, "preset.sft.model_path"
    if Path(path).is_dir():
        problem = weights.fault(path)
        return failed(f"{key}={path}: {problem}", "copy or download the file again") if problem else ok(f"{key}={path}")
    source = sources.model(path)
    if source is None:
        made = "`make demo` makes the base model of the preset tiny; for others give the folder of a Qwen2.5-Omni"
        return warning(f"{key}={path}: no such folder yet", made)
    from huggingface_hub import try_to_load_from_cache

    if isinstance(try_to_load_from_cache(source.name, "config.json"), str):
        return ok(f"{key}={path}: in the cache of huggingface_hub")
    return warning(
        f"{key}={path}: not on this machine; {source.where()}",
        f"`hf download {source.name} --local-dir {source.folder}`, then {key}={source.folder}",
    )


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
    Check("shards", check_shards, needs_preset=True),
    Check("base model", check_base_model, needs_preset=True),
    Check("model", check_model, needs_preset=True),
]
