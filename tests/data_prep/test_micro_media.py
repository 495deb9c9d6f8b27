"""Faces, voices and files of single clips."""

from __future__ import annotations

import io
import random
import subprocess
import sys
import wave
from itertools import combinations

import av
import numpy as np
import pytest

from data_prep.check.decode import inspect
from data_prep.media import encode_mp4, encode_wav, pcm16, resample
from data_prep.micro import voice
from data_prep.micro.cues import CUE_STATES, SENTENCES
from data_prep.micro.face import SIZE, Look, draw_face
from data_prep.micro.plan import draw_plan
from data_prep.micro.reasons import Annotator
from data_prep.micro.render import FPS, SECONDS, render
from data_prep.micro.voice import RATE, STYLES, VoiceError, pick_engine, speak
from verl_ext.data.media import MediaError, read_audio, read_video

FASTSTART = {"movflags": "faststart"}

ENGINES = [
    pytest.param(
        "espeak", marks=pytest.mark.skipif(not voice.espeak_available(), reason="espeakng-loader is not installed")
    ),
    "tones",
]


def face(state: str, opening: float = 0.5, seed: int = 0) -> np.ndarray:
    return np.asarray(draw_face(state, opening, Look.draw(random.Random(seed))), np.float32)


@pytest.mark.parametrize("state", CUE_STATES)
def test_faces_are_56_by_56_talk_and_repeat(state):
    assert face(state).shape == (SIZE, SIZE, 3)
    assert np.array_equal(face(state), face(state))
    assert np.abs(face(state, 1.0) - face(state, 0.0)).max() > 60, "the mouth does not move"


def test_faces_of_different_states_differ_more_than_a_mouth_moves():
    for one, other in combinations(CUE_STATES, 2):
        between = np.abs(face(one) - face(other)).mean()
        assert between > np.abs(face(one, 0.7) - face(one, 0.3)).mean()
        assert between > 5


def test_the_nearest_of_a_few_seen_faces_tells_the_state():
    def edges(picture: np.ndarray) -> np.ndarray:
        grey = picture.mean(-1)
        return (grey < 90).astype(np.float32)  # dark strokes, whatever the skin

    rng = random.Random(0)
    seen = {s: [edges(face(s, rng.random(), rng.randrange(10**6))) for _ in range(40)] for s in CUE_STATES}
    hits = 0
    for i in range(70):
        state = CUE_STATES[i % len(CUE_STATES)]
        picture = edges(face(state, rng.random(), 10**6 + i))
        hits += state == min(seen, key=lambda s: min(np.abs(picture - each).sum() for each in seen[s]))
    assert hits >= 66


def test_the_background_and_skin_carry_nothing():
    looks = {Look.draw(random.Random(i)) for i in range(200)}
    assert len(looks) > 150


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("state", CUE_STATES)
def test_every_voice_fits_and_has_its_loudness(engine, state):
    sound = speak("So nobody came to see me.", state, random.Random(1), engine, SECONDS)
    assert sound.dtype == np.float32
    assert len(sound) == round(SECONDS * RATE)
    assert np.abs(sound).max() < 1
    spoken = sound[np.flatnonzero(sound)[0] : np.flatnonzero(sound)[-1] + 1]
    assert np.sqrt(np.mean(spoken**2)) == pytest.approx(STYLES[state].level, rel=0.25)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_voice_does_not_depend_on_what_was_said_before(engine):
    first = speak("I miss my mother.", "sad", random.Random(1), engine, SECONDS)
    speak("You lied to me.", "angry", random.Random(2), engine, SECONDS)
    assert np.array_equal(first, speak("I miss my mother.", "sad", random.Random(1), engine, SECONDS))


@pytest.mark.parametrize("engine", ENGINES)
def test_pitch_follows_the_style(engine):
    def pitch(state: str) -> float:
        """Hz, by the autocorrelation of the loudest 64 ms, median over sentences."""
        found = []
        for sentence in SENTENCES["neutral"][:5]:
            sound = speak(sentence, state, random.Random(0), engine, SECONDS)
            windows = np.lib.stride_tricks.sliding_window_view(sound, 1024)[::256]
            piece = windows[np.argmax((windows**2).sum(1))] * np.hanning(1024)
            corr = np.correlate(piece, piece, "full")[1023:]
            found.append(RATE / (np.argmax(corr[40:320]) + 40))
        return float(np.median(found))

    assert pitch("disgusted") < pitch("neutral") < pitch("scared")


@pytest.mark.parametrize("engine", ENGINES)
def test_too_much_text_is_an_error_and_never_cut(engine):
    with pytest.raises(VoiceError, match="does not fit into"):
        speak("it is on the table and " * 30, "neutral", random.Random(0), engine, SECONDS)


def test_pick_engine(monkeypatch):
    assert pick_engine("tones") == "tones"
    with pytest.raises(ValueError, match="unknown voice 'kazoo'"):
        pick_engine("kazoo")
    monkeypatch.setattr(voice, "espeak_available", lambda: False)
    assert pick_engine("auto") == "tones"
    with pytest.raises(VoiceError, match="pip install espeakng-loader"):
        pick_engine("espeak")


def test_a_rendered_clip_has_what_a_model_expects():
    video, audio = render(draw_plan(0, "train", 0, Annotator()), "tones")
    with av.open(io.BytesIO(video)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == FPS
        assert float(container.duration / av.time_base) == pytest.approx(SECONDS, abs=0.15)
    assert [frame.shape for frame in frames] == [(SIZE, SIZE, 3)] * 4
    with av.open(io.BytesIO(video)) as container:
        track = container.streams.audio[0]
        assert (track.codec_context.name, track.rate, track.channels) == ("aac", RATE, 1)
        inside = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    with wave.open(io.BytesIO(audio)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        beside = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    assert len(beside) == round(SECONDS * RATE)
    # From the first sample on: the encoder's run-up is declared, and decoders drop it.
    agreement = np.corrcoef(inside[: len(beside)], beside)[0, 1]
    assert agreement > 0.9, "the track in the mp4 is not the wav's sound"


def test_the_picture_survives_the_codec():
    frames = [np.uint8(face("angry", opening)) for opening in (0.0, 0.3, 0.6, 0.9)]
    data = encode_mp4(frames, FPS, np.zeros(32000, np.float32), RATE)
    with av.open(io.BytesIO(data)) as container:
        back = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert np.abs(np.float32(back) - np.float32(frames)).mean() < 6


@pytest.mark.parametrize("samples", [8000, 32000, 40960])
def test_the_sound_in_an_mp4_starts_when_it_does(samples, tmp_path):
    sound = np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)
    path = tmp_path / "clip.mp4"
    path.write_bytes(encode_mp4([np.zeros((SIZE, SIZE, 3), np.uint8)] * 4, FPS, sound, RATE))
    back = read_audio(path)
    lag = np.argmax(np.correlate(back, sound, "full")) - (samples - 1)
    assert lag == 0
    assert 0 <= len(back) - samples < 1024  # the last frame of the codec is filled up
    assert len(read_video(path).frames_TCHW) > 0


def test_encoding_repeats_to_the_byte():
    frames = [np.uint8(face("sad", opening)) for opening in (0.1, 0.9)]
    sound = np.sin(np.arange(16000) / 9).astype(np.float32)
    assert encode_mp4(frames, 2, sound, RATE) == encode_mp4(frames, 2, sound, RATE)
    assert encode_wav(pcm16(sound), RATE) == encode_wav(pcm16(sound), RATE)


def test_resample_keeps_length_and_tone():
    sound = np.sin(2 * np.pi * 440 * np.arange(22050) / 22050)
    out = resample(sound, 22050, 16000)
    assert len(out) == pytest.approx(16000, abs=40)
    spectrum = np.abs(np.fft.rfft(out))
    assert np.argmax(spectrum) / len(out) * 16000 == pytest.approx(440, abs=3)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """An mp4 with its index in front, and a wav, of two seconds."""
    folder = tmp_path_factory.mktemp("clip")
    noise = np.random.default_rng(0)
    frames = [noise.integers(0, 255, (56, 56, 3), np.uint8) for _ in range(8)]
    sound = noise.normal(0, 0.1, 2 * RATE).astype(np.float32)
    (folder / "plain.mp4").write_bytes(encode_mp4(frames, 4, sound, RATE))
    with av.open(str(folder / "plain.mp4")) as source, av.open(str(folder / "a.mp4"), "w", options=FASTSTART) as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    (folder / "a.wav").write_bytes(encode_wav(pcm16(sound), RATE))
    return folder / "a.mp4", folder / "a.wav"


def test_good_clips_have_no_fault(clip):
    video, sound = clip
    assert [inspect(video, "both", RATE).fault, inspect(sound, "audio", RATE).fault] == ["", ""]


def test_a_fault_has_a_name(clip, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"not a film")
    assert inspect(bad, "video", RATE).fault == "unreadable"
    assert inspect(clip[1], "video", RATE).fault == "no_video_track"
    empty = tmp_path / "empty.wav"
    empty.write_bytes(encode_wav(np.zeros(0, "<i2"), RATE))
    assert inspect(empty, "audio", RATE).fault == "zero_frames"


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.8, 0.99])
@pytest.mark.parametrize(("which", "kind"), [(0, "video"), (0, "audio"), (1, "audio")])
def test_what_training_refuses_is_a_fault_and_nothing_else(clip, which, kind, share, tmp_path):
    """A decoder alone takes what is left of a wav or of an mp4 with its index in front for a shorter clip."""
    cut = tmp_path / clip[which].name
    data = clip[which].read_bytes()
    cut.write_bytes(data[: int(len(data) * share)])
    read = read_video if kind == "video" else read_audio
    with pytest.raises(MediaError):
        read(cut)
    assert inspect(cut, kind, RATE).fault


def test_checking_clips_needs_no_torch():
    code = "import sys, data_prep.build, data_prep.media; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
