"""Counting tokens from facts gives the number that encoding gives."""

import time

import av
import numpy as np
import pytest
from omni_cases import MEDIA, encoder, messages

from verl_ext.data.encode import MediaConfig
from verl_ext.data.media import read_audio
from verl_ext.data.token_count import PromptCounter, VideoFacts

SETTINGS = [
    {},
    {"fps": 4.0, "max_frames": 8},
    {"fps": 0.5},
    {"max_frames": 3, "min_pixels": 12544, "max_pixels": 12544},
    {"max_frames": 12, "min_pixels": 784, "max_pixels": 50_000},
    {"min_pixels": 128 * 28 * 28, "max_pixels": 768 * 28 * 28},
    {"sampling_rate": 16_000, "fps": 1.3, "max_frames": 64},
]


def facts(path):
    """A video's header and its frames, counted."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = sum(1 for _ in container.decode(video=0))
        return VideoFacts(frames, float(stream.average_rate), stream.height, stream.width)


def prompt(row, audio_in_video):
    return [
        {**message, "content": message["content"].replace("<audio>", "" if audio_in_video else "<audio>")}
        for message in row["prompt"]
    ]


@pytest.fixture(scope="module")
def clips(rows, long_row):
    """Rows, and the facts of their videos and of the sounds by either way."""
    return [
        (row, facts(row["videos"][0]), len(read_audio(row["audios"][0])), len(read_audio(row["videos"][0])))
        for row in (*rows[:6], long_row)
    ]


@pytest.mark.parametrize("audio_in_video", [False, True])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_count_is_the_length_of_the_encoding(settings, audio_in_video, clips, processor, tiny_model):
    settings = {"max_seconds": 8.0, **settings}
    media = MediaConfig(**{**MEDIA, "use_audio_in_video": audio_in_video, **settings})
    counter, encode = PromptCounter(tiny_model, media), encoder(processor, audio_in_video, **settings)
    for row, video, wav, track in clips[-3:]:
        counted = counter.count(prompt(row, audio_in_video), [video], [track if audio_in_video else wav])
        assert counted == len(encode(messages(row, audio_in_video)).prompt_ids)


@pytest.mark.parametrize(("height", "width"), [(40, 300), (333, 57), (56, 56), (720, 1280)])
def test_frames_of_any_shape(height, width, processor, tiny_model, tmp_path, rows):
    with av.open(str(tmp_path / "x.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = width // 2 * 2, height // 2 * 2, "yuv420p"
        for _ in range(9):
            frame = av.VideoFrame.from_ndarray(np.zeros((height // 2 * 2, width // 2 * 2, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    row = {**rows[0], "videos": [str(tmp_path / "x.mp4")]}
    settings = {"min_pixels": 3136, "max_pixels": 100_000, "max_frames": 16}
    counter = PromptCounter(tiny_model, MediaConfig(**{**MEDIA, **settings}))
    counted = counter.count(row["prompt"], [facts(tmp_path / "x.mp4")], [len(read_audio(row["audios"][0]))])
    assert counted == len(encoder(processor, **settings)(messages(row)).prompt_ids)


def test_audio_tokens_are_the_processors_and_the_models(processor, tiny_model):
    from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniAudioEncoder

    counter = PromptCounter(tiny_model, MediaConfig(**MEDIA))
    for samples in (400, 480, 481, 640, 641, 1599, 1601, 15_999, 16_000, 40_123, 159_999, 160_000):
        features = processor.feature_extractor(
            np.zeros(samples, np.float32), sampling_rate=16_000, return_attention_mask=True, padding="max_length"
        )
        frames = np.asarray(features["attention_mask"]).sum(-1)
        expected = Qwen2_5OmniAudioEncoder._get_feat_extract_output_lengths(None, frames)[1]
        assert counter.audio_tokens(samples) == int(expected[0]), samples


def test_text_alone(processor, tiny_model):
    chat = [{"role": "user", "content": "What does a smile mean?"}]
    counted = PromptCounter(tiny_model, MediaConfig(**MEDIA)).count(chat)
    assert counted == len(encoder(processor)(chat).prompt_ids)


def test_what_does_not_fit_is_refused(clips, tiny_model):
    row, video, wav, track = clips[0]
    apart = PromptCounter(tiny_model, MediaConfig(**MEDIA))
    with pytest.raises(ValueError, match="1 <video> items, but 0 clips"):
        apart.count(row["prompt"], [], [wav])
    with pytest.raises(ValueError, match="1 audio items, but 2 clips"):
        apart.count(row["prompt"], [video], [wav, wav])
    with pytest.raises(ValueError, match=r"12\.0 s long, but the model's processor takes at most 10\.0 s"):
        apart.count(row["prompt"], [video], [12 * 16_000])
    with pytest.raises(ValueError, match="has no frames"):
        apart.count(row["prompt"], [VideoFacts(0, 25.0, 56, 56)], [wav])
    with pytest.raises(ValueError, match="use_audio_in_video"):
        PromptCounter(tiny_model, MediaConfig(**MEDIA, use_audio_in_video=True)).count(row["prompt"], [video], [track])


def test_a_thousand_rows_take_about_a_second(clips, tiny_model):
    row, video, wav, _ = clips[0]
    counter = PromptCounter(tiny_model, MediaConfig(**MEDIA))
    counter.count(row["prompt"], [video], [wav])
    start = time.process_time()
    for _ in range(500):
        counter.count(row["prompt"], [video], [wav])
    assert time.process_time() - start < 2.0, "slow machines included; 0.3 s on an ordinary one"
