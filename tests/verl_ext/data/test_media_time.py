"""Frames and sound of real files on one clock; frames as a player shows them; what no model takes, by name."""

import os
import threading
import time

import numpy as np
import pytest
from made_clips import RATE, film, trim, turn

from verl_ext.data import bounded, demux, media
from verl_ext.data.media import MediaError, read_audio, read_video


def greys(video):
    return [round(float(frame.float().mean()) / 4) for frame in video.frames_TCHW]


def sounding(samples):
    """[(start, end)] in seconds of what is louder than silence, by blocks of 0.02 s."""
    blocks = np.abs(samples[: len(samples) // 320 * 320]).reshape(-1, 320).max(1) > 0.05
    edges = np.flatnonzero(np.diff(np.concatenate([[0], blocks, [0]]).astype(int)))
    return [(start / 50, end / 50) for start, end in edges.reshape(-1, 2)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_frames_of_a_variable_rate_are_chosen_by_time(suffix, tmp_path):
    times = [k / 20 for k in range(20)] + [float(k) for k in range(1, 10)]
    images = [np.full((64, 64, 3), grey, np.uint8) for grey in [12] * 20 + list(range(80, 224, 16))]
    video = read_video(film(tmp_path / f"x.{suffix}", times, images=images))
    kept = [round(grey / 4) for grey in greys(video)]  # of 16: 1 in the first second, then 5, 6, … 13
    assert len(kept) in (18, 20)  # 9.05 s, or 10 where the file says that the last frame lasts a second
    assert [kept.count(grey) for grey in range(5, 12)] == [2] * 7
    assert kept.count(1) == 2
    assert kept[-1] == 13
    assert video.fps == pytest.approx(2.0, abs=0.02)


def test_a_rate_that_a_browser_announces_wrongly_does_not_matter(tmp_path):
    video = read_video(film(tmp_path / "x.mkv", [k / 15 for k in range(60)]))  # announces 1000 frames a second
    assert greys(video) == pytest.approx([0, 8, 17, 25, 34, 42, 51, 59], abs=1)
    assert video.fps == pytest.approx(2.0, abs=0.01)


def test_a_late_sound_has_silence_in_front(tmp_path):
    path = film(tmp_path / "x.mkv", [k / 10 for k in range(40)], [[(2.048, 4.096)]])
    (heard,) = sounding(read_audio(path))
    assert heard[0] == pytest.approx(2.048, abs=0.08)
    assert heard[1] == pytest.approx(4.096, abs=0.08)
    assert read_video(path).fps == pytest.approx(2.0, abs=0.01)


def test_a_gap_in_the_sound_stays_a_gap(tmp_path):
    path = film(tmp_path / "x.mkv", [k / 10 for k in range(40)], [[(0, 1.024), (3.072, 4.096)]])
    first, second = sounding(read_audio(path))
    assert first == pytest.approx((0, 1.024), abs=0.08)
    assert second == pytest.approx((3.072, 4.096), abs=0.08)


def test_a_picture_that_starts_after_the_sound_keeps_its_place(tmp_path):
    path = film(tmp_path / "x.mkv", [2 + k / 10 for k in range(20)], [[(0, 4.096)]])
    assert sounding(read_audio(path))[0] == pytest.approx((0, 4.096), abs=0.08)
    video = read_video(path)
    assert greys(video) == pytest.approx([0, 0, 0, 0, 2, 8, 13, 19], abs=1)
    assert video.fps == pytest.approx(2.0, abs=0.03)


def test_a_clip_whose_clock_starts_late_starts_at_its_first_frame(tmp_path):
    path = film(tmp_path / "x.mkv", [50 + k / 10 for k in range(20)], [[(49.984, 51.968)]])
    assert greys(read_video(path)) == pytest.approx([0, 6, 13, 19], abs=1)
    assert sounding(read_audio(path))[0] == pytest.approx((0, 1.984), abs=0.08)


def test_what_an_edit_list_leaves_out_is_not_shown(tmp_path):
    path = film(tmp_path / "x.mp4", [k / 10 for k in range(40)], [[(0, 3.968)]])
    assert greys(read_video(path)) == pytest.approx([0, 6, 11, 16, 22, 27, 32, 38], abs=1)
    assert greys(read_video(trim(path, 1.05))) == pytest.approx([10, 16, 22, 27, 32, 38], abs=1)
    assert sounding(read_audio(path))[0] == pytest.approx((0, 3.968), abs=0.08)


@pytest.mark.parametrize("default", [0, 1])
def test_of_several_tracks_the_default_one_is_used(default, tmp_path):
    path = film(tmp_path / "x.mkv", [0.0, 0.5, 1.0], [[(0, 1.024)], [(0.512, 1.024)]], default=default)
    assert sounding(read_audio(path))[0][0] == pytest.approx([0, 0.512][default], abs=0.08)
    with demux.open_clip(path, "audio") as container:
        assert demux.track_of(container, "audio").index == container.streams.audio[default].index


CORNERS = np.zeros((64, 128, 3), np.uint8)
CORNERS[:32, :64], CORNERS[:32, 64:], CORNERS[32:, :64] = 240, 160, 80


@pytest.mark.parametrize(
    ("matrix", "shape", "corners"),
    [
        ((1, 0, 0, 1), (64, 128), [240, 160, 80, 0]),
        ((0, 1, -1, 0), (128, 64), [80, 240, 0, 160]),  # a quarter turn to the right, as a phone held upright
        ((0, -1, 1, 0), (128, 64), [160, 0, 240, 80]),
        ((-1, 0, 0, -1), (64, 128), [0, 80, 160, 240]),
        ((-1, 0, 0, 1), (64, 128), [160, 240, 0, 80]),  # a mirror
        ((0, 1, 1, 0), (128, 64), [240, 80, 160, 0]),
    ],
)
def test_frames_are_turned_as_a_player_shows_them(matrix, shape, corners, tmp_path):
    path = turn(film(tmp_path / "x.mp4", [0.0, 0.5, 1.0, 1.5], images=[CORNERS] * 4), *matrix)
    frame = read_video(path).frames_TCHW[0].float().mean(0).numpy()
    height, width = frame.shape
    assert (height, width) == shape
    places = [frame[y, x] for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    assert places == pytest.approx(corners, abs=12)


def test_frames_of_another_size_are_scaled_to_the_first(tmp_path):
    one = film(tmp_path / "a.mjpeg", [0.0, 0.5], images=[np.full((64, 64, 3), 40, np.uint8)] * 2, codec="mjpeg")
    two = film(tmp_path / "b.mjpeg", [0.0, 0.5], images=[np.full((96, 128, 3), 200, np.uint8)] * 2, codec="mjpeg")
    both = tmp_path / "both.mjpeg"
    both.write_bytes(one.read_bytes() + two.read_bytes())
    frames = read_video(both, fps=100.0).frames_TCHW
    assert frames.shape[1:] == (3, 64, 64)
    assert float(frames[0].float().mean()) == pytest.approx(40, abs=3)
    assert float(frames[-1].float().mean()) == pytest.approx(200, abs=3)


@pytest.mark.parametrize(("size", "taken"), [((4, 800), True), ((4, 802), False), ((802, 4), False)])
def test_a_picture_that_no_processor_takes_is_named(size, taken, tmp_path):
    path = film(tmp_path / "x.mkv", [0.0, 0.5], images=[np.zeros((*size, 3), np.uint8)] * 2)
    if taken:
        assert read_video(path).frames_TCHW.shape[2:] == size
        return
    with pytest.raises(MediaError, match="200 times") as caught:
        read_video(path)
    assert caught.value.kind == "bad_shape"
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("samples", "rate", "taken"), [(399, RATE, False), (400, RATE, True), (1, 48_000, False)])
def test_a_sound_too_short_for_a_token_is_named(samples, rate, taken, tmp_path):
    from data_prep.media import encode_wav

    path = tmp_path / "x.wav"
    path.write_bytes(encode_wav(np.ones(samples, "<i2"), rate))
    if taken:
        assert len(read_audio(path)) == samples
        return
    with pytest.raises(MediaError, match="too few for one audio token") as caught:
        read_audio(path)
    assert caught.value.kind == "too_short"
    assert str(path) in str(caught.value)


# -- a read that does not end ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [read_video, read_audio])
def test_a_pipe_is_no_clip(read, tmp_path):
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    with pytest.raises(MediaError, match="pipe or device") as caught:
        read(pipe)
    assert str(pipe) in str(caught.value)


@pytest.mark.parametrize("read", ["video", "audio"])
def test_a_decode_that_hangs_ends_with_the_clips_name(read, monkeypatch):
    go_on = threading.Event()
    monkeypatch.setattr(media, f"_read_{read}", lambda *a: go_on.wait(30))
    begun = time.monotonic()
    with pytest.raises(
        MediaError, match=r"reading slow\.mp4 did not end within 0\.2 s .data\.media\.decode_seconds"
    ) as e:
        getattr(media, f"read_{read}")("slow.mp4", seconds=0.2)
    assert time.monotonic() - begun < 5
    assert e.value.kind == "decoder_hung"
    # What comes late is not taken for the answer to the next call.
    go_on.set()
    assert bounded.bounded(lambda: "next", "x") == "next"


def test_errors_come_as_they_are_and_the_thread_is_used_again():
    name = bounded.bounded(lambda: threading.get_ident(), "x")
    with pytest.raises(KeyError, match="k"):
        bounded.bounded(lambda: {}["k"], "x")
    assert bounded.bounded(threading.get_ident, "x") == name != threading.get_ident()
