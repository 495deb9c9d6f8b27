"""What `check` says of clips as phones, browsers and recorders make them: the same rules as training's."""

import numpy as np
import pytest
from made_clips import film, turn

from data_prep.check.decode import inspect
from data_prep.check.verdicts import Limits, Media, of_media
from data_prep.clip import Clip
from verl_ext.data.clock import sample_indices
from verl_ext.data.media import read_audio, read_video

STEADY = [k / 10 for k in range(20)]


def notes(path, want="both"):
    facts = inspect(path, want, 16_000)
    media = Media((path, facts), (path, facts) if want == "both" else None)
    return dict(of_media(Clip("x", "row 1", path, path, labels=("happy",)), media, Limits()))


@pytest.mark.parametrize(
    "times", [STEADY, [k / 20 for k in range(20)] + [2.0, 3.0, 4.0], [k / 15 for k in range(60)]], ids=str
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_training_keeps_as_many_frames_as_the_check_counts(times, suffix, tmp_path):
    path = film(tmp_path / f"x.{suffix}", times, [[(0.512, 1.024)]])
    facts, video = inspect(path, "both", 16_000), read_video(path)
    assert facts.frames == len(times)
    assert len(sample_indices(facts.frames, facts.fps, 2.0, 64)) == len(video.frames_TCHW)
    assert facts.video_seconds == pytest.approx(len(video.frames_TCHW) / video.fps)
    assert facts.samples == len(read_audio(path))


def test_a_variable_rate_is_noted_with_both_rates(tmp_path):
    path = film(tmp_path / "x.mkv", [k / 15 for k in range(60)])
    message = notes(path, "video")["variable_rate"]
    assert "the header says 1000 frames per second" in message
    assert "(15 on average)" in message or "(14.99 on average)" in message or "(15.0" in message
    assert str(path) in message


def test_several_tracks_are_named_once_with_the_one_that_is_used(tmp_path):
    path = film(tmp_path / "x.mkv", STEADY, [[(0, 1.984)], [(0, 1.984)]])
    message = notes(path)["several_tracks"]
    assert "2 audio tracks: stream 1 (used), stream 2" in message


def test_a_turned_picture_has_its_turned_size(tmp_path):
    path = film(tmp_path / "x.mp4", STEADY, images=[np.zeros((64, 128, 3), np.uint8)] * 20)
    assert (inspect(path, "video", 16_000).height, inspect(path, "video", 16_000).width) == (64, 128)
    turn(path, 0, 1, -1, 0)
    assert (inspect(path, "video", 16_000).height, inspect(path, "video", 16_000).width) == (128, 64)


def test_a_change_of_size_is_noted(tmp_path):
    parts = [
        film(tmp_path / f"{side}.mjpeg", [0.0, 0.5], images=[np.zeros((side, side, 3), np.uint8)] * 2, codec="mjpeg")
        for side in (64, 96)
    ]
    path = tmp_path / "both.mjpeg"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert "2 of 4 frames have another size than the first (64 × 64)" in notes(path, "video")["size_changes"]
