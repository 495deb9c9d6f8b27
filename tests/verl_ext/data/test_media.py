"""Decoding clips: which frames are kept, and that every bad file is named."""

import weakref
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from verl_ext.data import demux, media
from verl_ext.data.media import MediaError, read_audio, read_video, sample_indices


@pytest.fixture(scope="module")
def clip(micro_corpus):
    """(mp4, wav) of one clip of two seconds: 4 frames of 56 × 56, 16 kHz."""
    video = sorted((micro_corpus / "train" / "video").glob("*.mp4"))[0]
    return video, micro_corpus / "train" / "audio" / f"{video.stem}.wav"


def remux(source, target, kinds, **options):
    """Copy the streams of the given kinds into a new container, without coding."""
    with av.open(str(source)) as read, av.open(str(target), "w", options=options) as write:
        streams = {s.index: write.add_stream_from_template(s) for s in read.streams if s.type in kinds}
        for packet in read.demux([read.streams[i] for i in streams]):
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                write.mux(packet)
    return target


def cut(source, target, share):
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


# -- which frames ----------------------------------------------------------------------------------------------------

frames = st.integers(1, 5000)
source_rates = st.sampled_from([1.0, 2.0, 12.5, 23.976, 25.0, 29.97, 30.0, 60.0])
rates = st.floats(0.1, 60.0)
limits = st.integers(1, 512)


@given(frames, source_rates, rates, limits, st.integers(1, 4))
def test_kept_frames_exist_in_order_and_fill_whole_patches(number, source_fps, fps, max_frames, multiple):
    kept = sample_indices(number, source_fps, fps, max_frames, multiple)
    assert len(kept) % multiple == 0
    assert multiple <= len(kept) <= max(multiple, max_frames)
    assert kept[0] == 0
    assert kept[-1] < number
    assert (np.diff(kept) >= 0).all()


@given(frames, source_rates, rates, limits)
def test_kept_frames_are_evenly_spread_from_first_to_last(number, source_fps, fps, max_frames):
    kept = sample_indices(number, source_fps, fps, max_frames)
    ideal = np.linspace(0, number - 1, len(kept))
    assert np.abs(kept - ideal).max() <= 0.5
    assert kept[-1] == number - 1


@given(frames, source_rates, rates)
def test_number_of_kept_frames_is_about_fps_times_seconds(number, source_fps, fps):
    kept = sample_indices(number, source_fps, fps, max_frames=10**6)
    assert abs(len(kept) - number / source_fps * fps) <= 2


@given(frames, source_rates, rates, rates, limits)
def test_a_higher_rate_never_keeps_fewer_frames(number, source_fps, one, other, max_frames):
    low, high = sorted((one, other))
    counts = [len(sample_indices(number, source_fps, fps, max_frames)) for fps in (low, high)]
    assert counts[0] <= counts[1]


def test_a_single_frame_is_repeated():
    assert sample_indices(1, 25.0, 2.0, 64).tolist() == [0, 0]


# -- good files ------------------------------------------------------------------------------------------------------


def test_a_video_is_bytes_of_rgb_at_the_asked_rate(clip):
    video = read_video(clip[0], fps=2.0)
    assert video.frames_TCHW.dtype == torch.uint8
    assert tuple(video.frames_TCHW.shape) == (4, 3, 56, 56)
    assert video.fps == pytest.approx(2.0)


def test_max_frames_bounds_and_the_reported_rate_follows(clip):
    video = read_video(clip[0], fps=2.0, max_frames=2)
    assert len(video.frames_TCHW) == 2
    assert video.fps == pytest.approx(1.0)
    whole = read_video(clip[0], fps=2.0)
    assert torch.equal(video.frames_TCHW[0], whole.frames_TCHW[0])
    assert torch.equal(video.frames_TCHW[-1], whole.frames_TCHW[-1])


def whole(path):
    """All frames, decoded the plain way."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """97 different frames at 29.97 a second, with frames that are coded out of order."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30000, 1001), options={"bf": "3", "g": "12"})
        stream.width = stream.height = 56
        for number in range(97):
            image = np.full((56, 56, 3), number * 2, np.uint8)
            image[: number % 56] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize(("fps", "max_frames"), [(2.0, 64), (30.0, 512), (60.0, 512), (10.0, 6), (0.1, 64)])
def test_kept_frames_are_those_of_their_indices(film, suffix, fps, max_frames, tmp_path):
    """Also in a container that does not say how many frames it has."""
    path = film if suffix == "mp4" else remux(film, tmp_path / "film.mkv", {"video"})
    everything = whole(path)
    assert len(everything) == 97
    with av.open(str(path)) as container:
        source_fps = float(container.streams.video[0].average_rate)
        assert container.streams.video[0].frames == (97 if suffix == "mp4" else 0)
    indices = sample_indices(97, source_fps, fps, max_frames)
    video = read_video(path, fps, max_frames)
    expected = np.stack([everything[index] for index in indices])
    assert np.array_equal(video.frames_TCHW.permute(0, 2, 3, 1).numpy(), expected)
    assert video.frames_TCHW.is_contiguous()
    assert video.fps == pytest.approx(len(indices) * source_fps / 97)


@pytest.mark.parametrize("said", [0, 1, 96, 98, 1000])
def test_a_header_that_is_wrong_about_the_number_of_frames_does_not_matter(film, said, monkeypatch):
    right = read_video(film)
    monkeypatch.setattr(media, "_announced", lambda stream: (said, 30000 / 1001))
    video = read_video(film)
    assert torch.equal(video.frames_TCHW, right.frames_TCHW)
    assert video.fps == pytest.approx(right.fps)


@pytest.mark.parametrize("few", [0, 10**9], ids=["several threads", "one thread"])
def test_the_number_of_threads_changes_no_pixel(film, few, monkeypatch):
    monkeypatch.setattr(media, "FEW_PIXELS", few)
    kept = read_video(film, fps=30.0, max_frames=98).frames_TCHW.permute(0, 2, 3, 1).numpy()
    everything = whole(film)
    assert np.array_equal(kept, np.stack([everything[index] for index in sample_indices(97, 30000 / 1001, 30.0, 98)]))


@pytest.mark.parametrize(("few", "kind"), [(4 * 56 * 56 - 1, "AUTO"), (4 * 56 * 56, "NONE")])
def test_a_clip_of_few_pixels_is_decoded_by_one_thread_in_one_opening(clip, few, kind, monkeypatch):
    kinds, openings = [], []

    def watched(container, stream, source):
        kinds.append(stream.thread_type.name)
        return demux.decode(container, stream, source)

    monkeypatch.setattr(media, "FEW_PIXELS", few)
    monkeypatch.setattr(media, "decode", watched)
    monkeypatch.setattr(media, "open_clip", lambda *a: openings.append(a) or demux.open_clip(*a))
    read_video(clip[0])
    assert kinds == [kind]
    assert len(openings) == 1


def test_a_film_is_decoded_once_and_only_kept_frames_are_converted(film, monkeypatch):
    converted, alive, most = [], weakref.WeakSet(), 0

    class Frame:
        def __init__(self, frame):
            self.frame = frame

        def __getattr__(self, name):
            return getattr(self.frame, name)

        def to_ndarray(self, **options):
            converted.append(self.frame.pts)
            return self.frame.to_ndarray(**options)

    def watched(*arguments):
        nonlocal most
        for frame in demux.decode(*arguments):
            frame = Frame(frame)
            alive.add(frame)
            most = max(most, len(alive))
            yield frame

    monkeypatch.setattr(media, "decode", watched)
    assert len(read_video(film).frames_TCHW) == len(converted) == len(set(converted)) == 6
    assert most <= 2


def test_audio_is_mono_float_in_range(clip):
    samples = read_audio(clip[1])
    assert samples.dtype == np.float32
    assert samples.shape == (32_000,)
    assert 0.05 < np.abs(samples).max() <= 1.0


def test_audio_is_resampled(clip):
    assert abs(len(read_audio(clip[1], sampling_rate=8000)) - 16_000) <= 16


def test_the_audio_track_of_a_video_is_that_of_the_wav(clip):
    track, wav = read_audio(clip[0]), read_audio(clip[1])
    assert 2.0 <= len(track) / 16_000 < 2.2  # AAC codes whole blocks of 1024 samples, the first of them silent
    likeness = [np.corrcoef(track[lag : lag + 30_000], wav[:30_000])[0, 1] for lag in range(0, 1100, 8)]
    assert max(likeness) > 0.95


def test_reading_twice_gives_the_same_numbers(clip):
    assert torch.equal(read_video(clip[0]).frames_TCHW, read_video(clip[0]).frames_TCHW)
    assert np.array_equal(read_audio(clip[0]), read_audio(clip[0]))


# -- bad files: the message names the file -----------------------------------------------------------------------------


def complaint(read, path, *arguments):
    with pytest.raises(MediaError) as caught:
        read(path, *arguments)
    assert str(path) in str(caught.value)
    return str(caught.value)


def adts(path, layout):
    """A tenth of a second of AAC, which may be joined to another."""
    with av.open(str(path), "w", format="adts") as container:
        stream = container.add_stream("aac", rate=16_000, layout=layout)
        channels = 2 if layout == "stereo" else 1
        for start in range(0, 16_384, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((channels, 1024), np.float32), format="fltp", layout=layout)
            frame.sample_rate, frame.pts = 16_000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path.read_bytes()


def test_a_sound_that_changes_its_layout_is_named(tmp_path):
    both = tmp_path / "both.aac"
    both.write_bytes(adts(tmp_path / "mono.aac", "mono") + adts(tmp_path / "stereo.aac", "stereo"))
    assert "cannot resample the sound" in complaint(read_audio, both)


@pytest.mark.parametrize("read", [read_video, read_audio])
def test_a_missing_file_is_named(read, tmp_path):
    assert "not found" in complaint(read, tmp_path / "nowhere.mp4")


@pytest.mark.parametrize("read", [read_video, read_audio])
def test_a_folder_is_not_a_clip(read, tmp_path):
    assert "not found" in complaint(read, tmp_path)


@pytest.mark.parametrize("read", [read_video, read_audio])
@pytest.mark.parametrize("content", [b"", b"RIFF", b"no clip at all" * 1000])
def test_what_is_no_clip_is_named(read, content, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    assert "cannot open" in complaint(read, path)


def test_a_wav_has_no_video_stream(clip):
    assert "no video stream" in complaint(read_video, clip[1])


def test_a_mute_video_has_no_audio_stream(clip, tmp_path):
    mute = remux(clip[0], tmp_path / "mute.mp4", {"video"})
    assert "no audio stream" in complaint(read_audio, mute)
    assert len(read_video(mute).frames_TCHW) == 4


@pytest.mark.parametrize("read", [read_video, read_audio])
@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8])
def test_an_mp4_cut_before_its_index_is_named(clip, read, share, tmp_path):
    assert "Re-encode" in complaint(read, cut(clip[0], tmp_path / "cut.mp4", share))


@pytest.mark.parametrize("read", [read_video, read_audio])
@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8, 0.99])
def test_an_mp4_cut_after_its_index_is_not_a_shorter_clip(clip, read, share, tmp_path):
    whole = remux(clip[0], tmp_path / "whole.mp4", {"video", "audio"}, movflags="faststart")
    read(whole)
    assert "cut off" in complaint(read, cut(whole, tmp_path / "cut.mp4", share))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_wav_that_is_cut_off_is_not_a_shorter_one(clip, share, tmp_path):
    assert "cut off" in complaint(read_audio, cut(clip[1], tmp_path / "cut.wav", share))


def test_too_long_an_audio_is_named_with_the_key(clip):
    message = complaint(read_audio, clip[1], 16_000, 1.5)
    assert "2.0 s long" in message
    assert "1.5 s" in message
    assert "data.media.max_seconds" in message
