"""Clips from memory: decoded as their files are, named in messages, told apart by content."""

import pickle

import numpy as np
import pytest
import torch
from omni_cases import encoder, messages

from verl_ext.data.demux import ClipBytes, MediaError, open_clip
from verl_ext.data.media import read_audio, read_video


def in_memory(path):
    with open(path, "rb") as file:
        return ClipBytes(f"corpus/{path}", file.read())


@pytest.fixture
def clip(rows):
    return rows[0]["videos"][0], rows[0]["audios"][0]


def test_bytes_decode_as_their_file_does(clip):
    video, wav = clip
    assert torch.equal(read_video(in_memory(video)).frames_TCHW, read_video(video).frames_TCHW)
    assert read_video(in_memory(video), 1.0, 2).fps == read_video(video, 1.0, 2).fps
    for path in clip:
        assert np.array_equal(read_audio(in_memory(path)), read_audio(path))
    assert np.array_equal(read_audio(in_memory(wav), 8000), read_audio(wav, 8000))


@pytest.mark.parametrize("read", [read_video, read_audio])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.9])
def test_cut_off_bytes_are_refused_by_name(read, share, clip):
    data = in_memory(clip[0]).data
    with pytest.raises(MediaError, match=r"some/clip\.mp4"):
        read(ClipBytes("some/clip.mp4", data[: int(len(data) * share)]))


def test_a_stream_that_is_missing_is_named(clip):
    with pytest.raises(MediaError, match="has no video stream"):
        open_clip(in_memory(clip[1]), "video")


def test_a_name_that_looks_like_an_address_opens_nothing(clip):
    video = ClipBytes("http://nowhere.invalid/x.mp4", in_memory(clip[0]).data)
    assert torch.equal(read_video(video).frames_TCHW, read_video(clip[0]).frames_TCHW)


def test_a_clip_shows_its_digest_and_not_its_content(clip):
    video = in_memory(clip[0])
    assert video.sha256 in repr(video)
    assert len(repr(video)) < 400
    assert str(video) == video.name
    assert pickle.loads(pickle.dumps(video)) == video


def test_bytes_give_the_encoding_of_their_files(processor, rows):
    by_path = messages(rows[0])
    by_bytes = messages(rows[0])
    for part in by_bytes[0]["content"][:2]:
        part[part["type"]] = in_memory(part[part["type"]])
    encode = encoder(processor)
    one, other = encode(by_path), encode(by_bytes)
    assert one.prompt_ids == other.prompt_ids
    assert one.processor_kwargs == other.processor_kwargs
    assert all(torch.equal(one.inputs[name], other.inputs[name]) for name in one.inputs)


def test_the_prompt_cache_tells_contents_of_one_name_apart(processor, rows):
    def chat(row):
        video = ClipBytes("x.mp4", in_memory(row["videos"][0]).data)
        return [{"role": "user", "content": [{"type": "video", "video": video}]}]

    encode = encoder(processor, cache_size=4)
    first = encode(chat(rows[0]))
    assert encode(chat(rows[0])) is first
    assert encode(chat(rows[1])) is not first
