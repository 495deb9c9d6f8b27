"""A voice whose pitch, range, rate, loudness and roughness carry the emotion; the speaker is always the same.

espeak-ng is driven through its shared library, which the package espeakng-loader brings; where that is absent our own
tone synthesiser (`tones.py`) speaks. All sound is mono float32 in [-1, 1] at `RATE` Hz.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import random
from dataclasses import replace

import numpy as np

from data_prep.micro.style import STYLES, Style
from data_prep.micro.tones import sing

RATE = 16_000
ENGINES = ("espeak", "tones")
_ESPEAK_VOICE = b"en-us"
_FASTEST = 350  # words a minute; faster is no longer understood
# espeak-ng's speak_lib.h
_AUDIO_OUTPUT_SYNCHRONOUS, _CHARS_AUTO, _POS_CHARACTER = 2, 0, 1
_PARAM_RATE, _PARAM_VOLUME, _PARAM_PITCH, _PARAM_RANGE = 1, 2, 3, 4


class VoiceError(RuntimeError):
    """No sound came from the speech engine."""


def espeak_available() -> bool:
    """Whether the package that brings espeak-ng is installed."""
    return importlib.util.find_spec("espeakng_loader") is not None


def pick_engine(wish: str) -> str:
    """Resolve "auto" to an engine. Raises VoiceError when the wish cannot be met, ValueError when it is unknown."""
    if wish == "auto":
        return "espeak" if espeak_available() else "tones"
    if wish not in ENGINES:
        raise ValueError(f"unknown voice {wish!r}; known: auto, {', '.join(ENGINES)}")
    if wish == "espeak" and not espeak_available():
        raise VoiceError("--voice espeak needs the package espeakng-loader: pip install espeakng-loader==0.2.4")
    return wish


def engine_version(engine: str) -> str:
    """What the manifest records of the engine, e.g. "espeak-ng 1.52.0"."""
    if engine == "tones":
        return "tones 1"
    return f"espeak-ng {_load_espeak()[1]}"


def speak(text: str, state: str, rng: random.Random, engine: str, seconds: float) -> np.ndarray:
    """Say `text` in an emotional state.

    Returns `round(seconds * RATE)` samples, the speech after a short random pause. Speech that is too long for that is
    said again faster, so no word is ever cut. Raises VoiceError when the engine gives no sound or cannot be that quick.
    """
    style = _jitter(STYLES[state], rng)
    lead = round(rng.uniform(0.02, 0.08) * RATE)
    room = round(seconds * RATE) - lead
    while len(sound := _trim(_synthesise(text, style, engine))) > room:
        style = replace(style, rate=max(style.rate + 5, round(style.rate * len(sound) / room * 1.02)))
        if style.rate > _FASTEST:
            raise VoiceError(f"{text!r} does not fit into {seconds} s at {_FASTEST} words per minute")
    clip = np.zeros(lead + room, np.float32)
    clip[lead : lead + len(sound)] = _colour(sound, style)
    return clip


def _jitter(style: Style, rng: random.Random) -> Style:
    """Small changes that carry nothing."""
    return replace(
        style,
        pitch=min(99, max(0, style.pitch + rng.randint(-3, 3))),
        rate=round(style.rate * rng.uniform(0.96, 1.04)),
        level=style.level * rng.uniform(0.9, 1.1),
    )


def _synthesise(text: str, style: Style, engine: str) -> np.ndarray:
    if engine == "tones":
        return sing(text, style)
    from data_prep.media import resample

    sound, rate = _espeak_in_fork(text.rstrip(".") + style.ending, style)
    return resample(sound, rate, RATE)


def _colour(sound: np.ndarray, style: Style) -> np.ndarray:
    """Apply roughness, tremor and loudness."""
    sound = sound / max(float(np.abs(sound).max()), 1e-9)
    if style.rough:
        sound = np.tanh(style.rough * sound)
    if style.tremor:
        time = np.arange(len(sound)) / RATE
        sound = sound * (1 - style.tremor * (0.5 + 0.5 * np.sin(2 * np.pi * 9 * time)))
    sound = sound * (style.level / max(float(np.sqrt(np.mean(sound**2))), 1e-9))
    return np.clip(sound, -0.99, 0.99).astype(np.float32)


def _trim(sound: np.ndarray) -> np.ndarray:
    """Cut silence (below 1 % of the peak) from both ends."""
    loud = np.flatnonzero(np.abs(sound) > 0.01 * np.abs(sound).max(initial=0.0))
    if not len(loud):
        raise VoiceError("the speech engine returned silence")
    return sound[loud[0] : loud[-1] + 1]


def _espeak_in_fork(text: str, style: Style) -> tuple[np.ndarray, int]:
    """Float samples and their rate, from a forked child.

    espeak-ng keeps state from one utterance to the next (even across espeak_Terminate), which changes the samples; a
    child that speaks once is the only way to get the same bytes whatever was said before.
    """
    library, _ = _load_espeak()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            with os.fdopen(writer, "wb") as pipe:
                pipe.write(_espeak(library, text, style))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    if len(data) <= 4:
        raise VoiceError(f"espeak-ng gave no sound for {text!r}; use --voice tones, which does not need espeak-ng")
    return np.frombuffer(data[4:], np.int16).astype(np.float32) / 32768, int.from_bytes(data[:4], "little")


_espeak_library: tuple[ctypes.CDLL, str] | None = None


def _load_espeak() -> tuple[ctypes.CDLL, str]:
    """The shared library, not yet initialised, and its version."""
    global _espeak_library
    if _espeak_library is None:
        import espeakng_loader

        library = ctypes.CDLL(espeakng_loader.get_library_path())
        library.espeak_Info.restype = ctypes.c_char_p
        _espeak_library = library, library.espeak_Info(None).decode()
    return _espeak_library


def _espeak(library: ctypes.CDLL, text: str, style: Style) -> bytes:
    """Sample rate (4 bytes, little endian) and 16-bit samples."""
    import espeakng_loader

    chunks: list[bytes] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def collect(wave, count, _events):
        if wave and count > 0:
            chunks.append(ctypes.string_at(wave, 2 * count))
        return 0

    rate = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
    library.espeak_SetSynthCallback(collect)
    library.espeak_SetVoiceByName(_ESPEAK_VOICE)
    for parameter, value in (
        (_PARAM_RATE, style.rate),
        (_PARAM_VOLUME, 100),
        (_PARAM_PITCH, style.pitch),
        (_PARAM_RANGE, style.range),
    ):
        library.espeak_SetParameter(parameter, value, 0)
    data = text.encode() + b"\0"
    library.espeak_Synth(data, len(data), 0, _POS_CHARACTER, 0, _CHARS_AUTO, None, None)
    library.espeak_Synchronize()
    return max(rate, 0).to_bytes(4, "little") + b"".join(chunks)
