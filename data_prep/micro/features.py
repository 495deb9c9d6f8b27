"""Features of one modality at a time, read from a finished corpus's own files, for the probes.

They are as generous as a linear model can use: the sound keeps its course over time, so that a probe may recognise what
is said as well as how, and the picture keeps every pixel.
"""

from __future__ import annotations

import wave
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise

import numpy as np

from data_prep.clip import Clip, CorpusError
from verl_ext.data.demux import MediaError, decode, open_clip

_WINDOW, _HOP = 512, 160  # samples: 32 ms and 10 ms at 16 kHz
_BANDS = 32  # mel bands
_PIECES = 16  # time steps into which the speech is cut, however long it lasts
_SIDE = 28  # pixels: 56 × 56 frames at half their size
_QUIET = 1e-7  # power below which a band counts as silent


def audio_features(clip: Clip) -> np.ndarray:
    """Loudness, length and log-mel spectra of the clip's wav: mean, spread and change over time, and 16 steps of it.

    Raises CorpusError where the wav cannot be read.
    """
    sound, rate = _read_wav(clip)
    spectra = _log_mel(sound, rate)
    loud = spectra.max(axis=1) > spectra.max() - 6  # natural log of power: 26 dB below the loudest moment
    first, last = int(np.argmax(loud)), len(loud) - int(np.argmax(loud[::-1]))
    speech = spectra[first:last]
    steps = np.stack([piece.mean(axis=0) for piece in _pieces(speech)])
    level = np.log(max(float(np.sqrt(np.mean(sound**2))), 1e-6))
    change = np.abs(np.diff(speech, axis=0)).mean(axis=0) if len(speech) > 1 else np.zeros(_BANDS)
    parts = ([level, (last - first) / 100], speech.mean(axis=0), speech.std(axis=0), change, steps.ravel())
    return np.concatenate(parts).astype(np.float32)


def video_features(clip: Clip) -> np.ndarray:
    """The mean of the clip's frames and their spread over time, every pixel at half the size, from the decoded mp4.

    Raises CorpusError where the mp4 cannot be decoded.
    """
    try:
        with open_clip(clip.video, "video") as container:
            frames = [
                frame.to_ndarray(format="rgb24", width=_SIDE, height=_SIDE)
                for frame in decode(container, container.streams.video[0], clip.video)
            ]
    except MediaError as error:
        raise CorpusError(f"clip {clip.name!r}: {error}") from error
    pixels = np.stack(frames).astype(np.float32) / 255
    return np.concatenate([pixels.mean(axis=0).ravel(), pixels.mean(axis=3).std(axis=0).ravel()])


MEDIA_FEATURES: dict[str, Callable[[Clip], np.ndarray]] = {"audio": audio_features, "video": video_features}


def _read_wav(clip: Clip) -> tuple[np.ndarray, int]:
    """Float samples in [-1, 1] and their rate in Hz."""
    try:
        with wave.open(str(clip.audio), "rb") as file:
            if file.getnchannels() != 1 or file.getsampwidth() != 2:
                raise CorpusError(f"{clip.audio}: not 16-bit mono; probes only read the files that `micro` made")
            data, rate = file.readframes(file.getnframes()), file.getframerate()
    except (wave.Error, EOFError) as error:
        raise CorpusError(f"{clip.audio}: not a WAV file ({error}); make the corpus again") from error
    if len(data) < 2 * _WINDOW:
        raise CorpusError(f"{clip.audio}: shorter than {_WINDOW} samples; make the corpus again")
    return np.frombuffer(data, "<i2").astype(np.float32) / 32768, rate


def _log_mel(sound: np.ndarray, rate: int) -> np.ndarray:
    """(moments, bands): natural log of the power in mel bands, every 10 ms at 16 kHz."""
    windows = np.lib.stride_tricks.sliding_window_view(sound, _WINDOW)[::_HOP]
    power = np.abs(np.fft.rfft(windows * np.hanning(_WINDOW), axis=1)) ** 2 / _WINDOW
    return np.log(power @ _mel_bank(rate) + _QUIET)


@lru_cache(maxsize=4)
def _mel_bank(rate: int) -> np.ndarray:
    """(frequencies, bands): triangles that overlap by half, evenly spaced in mel from 60 Hz to half the rate."""
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (60, rate / 2))
    edges = 700 * (10 ** (np.linspace(low, high, _BANDS + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(_WINDOW, 1 / rate)[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return np.clip(np.minimum(rising, falling), 0, None)


def _pieces(speech: np.ndarray) -> list[np.ndarray]:
    """The speech cut into equally long pieces, none empty."""
    edges = np.linspace(0, len(speech), _PIECES + 1)
    return [speech[int(low) : max(int(np.ceil(high)), int(low) + 1)] for low, high in pairwise(edges)]
