"""The cache of decoded clips: the same bits with and without, whatever happens to the folder."""

import logging
import multiprocessing
import os
import time
from pathlib import Path

import embedded_shard
import numpy as np
import pytest
import torch
from omni_cases import encoder, messages

from verl_ext.data import clip_cache
from verl_ext.data.clip_cache import ClipCache, evict, read_clip, write_clip
from verl_ext.data.demux import ClipBytes, MediaError
from verl_ext.data.encode import MediaConfig
from verl_ext.data.media import read_audio, read_video


@pytest.fixture
def clip(rows):
    return rows[0]["videos"][0], rows[0]["audios"][0]


@pytest.fixture
def decodings(monkeypatch):
    """The sources that were decoded."""
    found = []
    for name, read in (("read_video", read_video), ("read_audio", read_audio)):
        monkeypatch.setattr(
            clip_cache, name, lambda source, *rest, read=read: found.append(str(source)) or read(source, *rest)
        )
    return found


def files(folder):
    return sorted(folder.glob("??/*.clip"))


def check(cache, clip):
    """What the cache gives is what decoding gives, and may be written to."""
    video, right = cache.video(clip[0], 2.0, 4), read_video(clip[0], 2.0, 4)
    assert torch.equal(video.frames_TCHW, right.frames_TCHW)
    assert video.frames_TCHW.dtype == torch.uint8
    assert video.fps == right.fps
    video.frames_TCHW[0] = 0
    samples = cache.audio(clip[1], 16_000, 4.0)
    assert samples.dtype == np.float32
    assert np.array_equal(samples, read_audio(clip[1]))
    samples[:] = 0


def test_a_clip_is_decoded_once_over_caches_and_gives_the_same_bits(clip, decodings, tmp_path):
    for _ in range(3):
        check(ClipCache(tmp_path / "made/on/demand", 1.0), clip)
    assert decodings == list(clip)


def test_other_settings_are_another_entry(clip, decodings, tmp_path):
    cache = ClipCache(tmp_path, 1.0)
    shapes = [len(cache.video(clip[0], *settings).frames_TCHW) for settings in ((2.0, 4), (2.0, 2), (1.0, 4))]
    assert shapes == [4, 2, 2]
    assert len(cache.audio(clip[1], 8000, 4.0)) < len(cache.audio(clip[1], 16_000, 4.0))
    assert len(decodings) == 5


def test_a_file_that_changed_is_another_clip(rows, decodings, tmp_path):
    cache, path = ClipCache(tmp_path / "cache", 1.0), tmp_path / "x.mp4"
    for row in rows[:2]:
        path.write_bytes(Path(row["videos"][0]).read_bytes())
        assert torch.equal(cache.video(path, 2.0, 4).frames_TCHW, read_video(row["videos"][0], 2.0, 4).frames_TCHW)


def test_bytes_are_told_apart_by_content(rows, decodings, tmp_path):
    cache = ClipCache(tmp_path, 1.0)
    for row in (*rows[:2], *rows[:2]):
        video = ClipBytes("x.mp4", Path(row["videos"][0]).read_bytes())
        assert torch.equal(cache.video(video, 2.0, 4).frames_TCHW, read_video(row["videos"][0], 2.0, 4).frames_TCHW)
    assert len(decodings) == 2


def test_an_embedded_clip_is_recalled_without_reading_it(rows, decodings, tmp_path, monkeypatch):
    from verl_ext.data.dataset import load_shard
    from verl_ext.data.embedded import EmbeddedClip

    shard = load_shard(embedded_shard.write_embedded(rows[:2], tmp_path / "x.parquet"))
    cache = ClipCache(tmp_path / "cache", 1.0)
    before = [cache.video(row["videos"][0], 2.0, 4) for row in shard]
    monkeypatch.setattr(EmbeddedClip, "read", None)
    for row, video in zip(shard, before, strict=True):
        assert torch.equal(cache.video(row["videos"][0], 2.0, 4).frames_TCHW, video.frames_TCHW)
    assert not torch.equal(before[0].frames_TCHW, before[1].frames_TCHW)


def test_errors_are_not_remembered(clip, decodings, tmp_path):
    cache, path = ClipCache(tmp_path / "cache", 1.0), tmp_path / "x.mp4"
    for _ in range(2):
        with pytest.raises(MediaError, match="not found"):
            cache.video(path, 2.0, 4)
    path.write_bytes(Path(clip[0]).read_bytes()[:1500])
    for _ in range(2):
        with pytest.raises(MediaError, match=r"x\.mp4"):
            cache.video(path, 2.0, 4)
    with pytest.raises(MediaError, match="over the limit"):
        cache.audio(clip[1], 16_000, 0.5)
    assert files(tmp_path / "cache") == []
    assert len(decodings) == 5


# -- damage ------------------------------------------------------------------------------------------------------------


def flip(data):
    return data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]


DAMAGES = {
    "empty": lambda data: b"",
    "cut": lambda data: data[:-1],
    "longer": lambda data: data + b"x",
    "bit": flip,
    "header": lambda data: b"{" + data,
    "object": lambda data: data.replace(b"|u1", b"|O8").replace(b"<f4", b"|O8"),
    "list": lambda data: b"[]\n" + data,
    "fewer": lambda data: data.replace(b'"shape": [', b'"shape": [-'),
    "noise": lambda data: bytes(range(256)) * 9,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_made_anew(damage, clip, decodings, tmp_path, caplog):
    check(ClipCache(tmp_path, 1.0), clip)
    for file in files(tmp_path):
        file.write_bytes(DAMAGES[damage](file.read_bytes()))
    with caplog.at_level(logging.WARNING):
        check(ClipCache(tmp_path, 1.0), clip)
    assert len(decodings) == 4
    assert "is damaged and will be written again" in caplog.text
    check(ClipCache(tmp_path, 1.0), clip)
    assert len(decodings) == 4


@pytest.mark.parametrize("call", ["replace", "open", "mkdir"])
def test_a_folder_that_takes_nothing_costs_time_alone(call, clip, tmp_path, monkeypatch, caplog):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    owner = {"replace": clip_cache.os, "open": clip_cache.os, "mkdir": Path}[call]
    monkeypatch.setattr(owner, call, full)
    check(ClipCache(tmp_path / "cache", 1.0), clip)
    assert "No space left" in caplog.text
    monkeypatch.undo()
    assert not list(tmp_path.rglob("*.part"))


def test_space_is_left_to_others(clip, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(clip_cache, "FREE_BYTES", 1 << 60)
    check(ClipCache(tmp_path, 1.0), clip)
    assert files(tmp_path) == []
    assert "nearly full" in caplog.text


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_the_clips_used_longest_ago_go_first(tmp_path):
    made = []
    for at in range(10):
        file = tmp_path / f"{at:02d}" / f"{at}.clip"
        file.parent.mkdir()
        write_clip(file, np.full(1000, at, np.uint8), {})
        os.utime(file, (at, at))
        made.append(file)
    size = sum(file.stat().st_size for file in made)
    evict(tmp_path, size)
    assert len(files(tmp_path)) == 10
    evict(tmp_path, size - 1)
    assert files(tmp_path) in (made[1:], made[2:]), "down to nine tenths, give or take a digit of a checksum"


def test_the_folder_stays_within_its_limit_and_keeps_what_is_used(rows, decodings, tmp_path):
    cache = ClipCache(tmp_path, 500_000e-9)
    for row in rows[:24]:
        cache.video(row["videos"][0], 2.0, 4)
        cache.video(rows[0]["videos"][0], 2.0, 4)
        assert sum(file.stat().st_size for file in files(tmp_path)) <= 500_000
        time.sleep(0.002)  # times of use must differ
    assert len(files(tmp_path)) >= 8
    assert decodings.count(rows[0]["videos"][0]) == 1


def test_a_clip_over_a_tenth_of_the_limit_is_not_kept(clip, tmp_path, caplog):
    check(ClipCache(tmp_path, 100_000e-9), clip)
    assert files(tmp_path) == []
    assert "media.cache_gb" in caplog.text


def test_what_a_killed_process_left_goes(tmp_path):
    (tmp_path / "ab").mkdir()
    for name, age in (("old.part", 7200), ("new.part", 10)):
        (tmp_path / "ab" / name).write_bytes(b"x")
        os.utime(tmp_path / "ab" / name, (time.time() - age,) * 2)
    evict(tmp_path, 10**9)
    assert [file.name for file in (tmp_path / "ab").iterdir()] == ["new.part"]


def _decode_slowly(arguments):
    folder, path, log = arguments

    def slow(source, *rest):
        with open(log, "a") as file:
            file.write("decoded\n")
        time.sleep(0.5)
        return read_video(source, *rest)

    clip_cache.read_video = slow
    return int(ClipCache(folder, 1.0).video(path, 2.0, 4).frames_TCHW.sum())


def test_processes_at_the_same_time_decode_a_clip_once(clip, tmp_path):
    log = tmp_path / "log"
    with multiprocessing.get_context("fork").Pool(3) as pool:
        sums = pool.map(_decode_slowly, [(tmp_path / "cache", clip[0], log)] * 3, chunksize=1)
    assert len(set(sums)) == 1
    assert log.read_text() == "decoded\n"


# -- in the encoder ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("audio_in_video", [False, True])
def test_an_encoding_is_the_same_bit_for_bit(audio_in_video, processor, rows, tmp_path):
    chat = messages(rows[0], audio_in_video)
    plain = encoder(processor, audio_in_video)(chat)
    for _ in range(2):
        cached = encoder(processor, audio_in_video, cache_folder=str(tmp_path), cache_gb=1.0)(chat)
        assert cached.prompt_ids == plain.prompt_ids
        assert cached.processor_kwargs == plain.processor_kwargs
        assert all(torch.equal(cached.inputs[name], plain.inputs[name]) for name in plain.inputs)
        assert all(torch.equal(*pair) for pair in zip(cached.videos, plain.videos, strict=True))
        assert all(np.array_equal(*pair) for pair in zip(cached.audios, plain.audios, strict=True))
    assert len(files(tmp_path)) == 2


def test_a_cache_without_room_is_refused():
    with pytest.raises(ValueError, match=r"media\.cache_gb=0.*media\.cache_folder"):
        MediaConfig(cache_folder="x", cache_gb=0)


def test_a_clip_is_read_as_it_was_written(tmp_path):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)[:, ::-1]
    write_clip(tmp_path / "x", array, {"fps": 1 / 3})
    found, facts = read_clip(tmp_path / "x")
    assert np.array_equal(found, array)
    assert facts == {"fps": 1 / 3}
