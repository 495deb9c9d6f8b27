"""From messages to tensors: the cache, the processor's arguments, the cut of the padding."""

from itertools import groupby

import numpy as np
import pytest
import torch
from omni_cases import MEDIA, encoder, messages

from verl_ext.data.encode import MediaConfig, PromptEncoder, trim_audio
from verl_ext.data.media import MediaError


def test_an_unknown_media_key_is_an_error_that_names_it():
    with pytest.raises(TypeError, match="frames_per_second"):
        MediaConfig.from_config({"fps": 2.0, "frames_per_second": 2.0})


def test_media_config_reads_omegaconf():
    from omegaconf import OmegaConf

    assert MediaConfig.from_config(OmegaConf.create(MEDIA)) == MediaConfig(**MEDIA)


def test_a_prompt_is_encoded_once(processor, rows):
    encode = encoder(processor, cache_size=2)
    first = encode(messages(rows[0]))
    assert encode(messages(rows[0])) is first
    assert encode(messages(rows[1])) is not first


def test_the_cache_forgets_the_prompt_used_longest_ago(processor, rows):
    encode = encoder(processor, cache_size=2)
    first, second = encode(messages(rows[0])), encode(messages(rows[1]))
    assert encode(messages(rows[0])) is first
    encode(messages(rows[2]))
    assert encode(messages(rows[0])) is first
    assert encode(messages(rows[1])) is not second


def test_the_cache_is_bounded_in_bytes_but_keeps_the_newest(processor, rows):
    size = encoder(processor)(messages(rows[0])).nbytes
    assert size > sum(tensor.nbytes for tensor in encoder(processor)(messages(rows[0])).videos) > 0
    for gigabytes, kept in ((2.5 * size / 1e9, 2), (0.5 * size / 1e9, 1)):
        encode = PromptEncoder(processor, MediaConfig(**MEDIA), cache_size=4, cache_gb=gigabytes)
        encoded = [encode(messages(rows[i])) for i in range(3)]
        assert all(encode(messages(rows[i])) is encoded[i] for i in range(3 - kept, 3))
        assert len(encode._cache) == kept
        assert encode._bytes == sum(each.nbytes for each in encode._cache.values())


def test_without_a_cache_every_call_encodes_and_gives_the_same(processor, rows):
    encode = encoder(processor, cache_size=0)
    one, other = encode(messages(rows[0])), encode(messages(rows[0]))
    assert one is not other
    assert one.prompt_ids == other.prompt_ids
    assert all(torch.equal(one.inputs[name], other.inputs[name]) for name in one.inputs)


def test_a_clip_becomes_the_actors_tensors(processor, rows):
    encoded = encoder(processor)(messages(rows[0]))
    assert set(encoded.inputs) == {
        "pixel_values_videos",
        "video_grid_thw",
        "video_second_per_grid",
        "input_features",
        "feature_attention_mask",
    }
    assert encoded.inputs["video_grid_thw"].tolist() == [[2, 4, 4]]
    assert encoded.inputs["video_second_per_grid"].tolist() == [1.0]
    assert encoded.prompt_ids.count(processor.video_token_id) == 8
    assert encoded.prompt_ids.count(processor.audio_token_id) == 50
    assert [tuple(video.shape) for video in encoded.videos] == [(4, 3, 56, 56)]
    assert [audio.shape for audio in encoded.audios] == [(32_000,)]
    assert encoded.processor_kwargs["fps"] == 2.0


def test_interleaved_audio_comes_from_the_video_in_turns_of_two_seconds(processor, long_row):
    encoded = encoder(processor, True, max_frames=12, max_seconds=8.0)(messages(long_row, audio_in_video=True))
    ids = encoded.prompt_ids
    start = ids.index(processor.vision_bos_token_id)
    assert ids[start + 1] == processor.audio_bos_token_id
    media = (processor.video_token_id, processor.audio_token_id)
    turns = [(token, len(list(run))) for token, run in groupby(ids) if token in media]
    assert [token for token, _ in turns[:6]] == [*media] * 3
    assert [length for _, length in turns[:6:2]] == [8, 8, 8]
    assert [length for _, length in turns[1:5:2]] == [50, 50]
    assert encoded.processor_kwargs["use_audio_in_video"] is True


def test_text_alone_needs_no_media(processor):
    encoded = encoder(processor)([{"role": "user", "content": "Hello"}])
    assert (encoded.inputs, encoded.videos, encoded.audios) == ({}, [], [])
    assert "fps" not in encoded.processor_kwargs
    assert "Hello" in processor.tokenizer.decode(encoded.prompt_ids)


def test_videos_of_different_rates_in_one_prompt_are_refused(processor, rows, tmp_path):
    import av

    with av.open(str(tmp_path / "short.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 56
        for _ in range(3):
            frame = av.VideoFrame(56, 56, "yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    clips = [rows[0]["videos"][0], str(tmp_path / "short.mp4")]
    content = [{"type": "video", "video": clip} for clip in clips]
    with pytest.raises(ValueError, match="frame rates"):
        encoder(processor)([{"role": "user", "content": content}])


def test_a_bad_clip_in_a_prompt_is_named(processor, rows):
    row = {**rows[0], "audios": ["/nowhere/clip.wav"]}
    with pytest.raises(ValueError, match=r"/nowhere/clip\.wav"):
        encoder(processor)(messages(row))


def test_audio_past_the_processors_window_is_refused_not_cut(processor, rows, tmp_path):
    from data_prep.media import encode_wav

    assert processor.feature_extractor.n_samples == 160_000
    for seconds, fits in ((10, True), (12, False)):
        path = tmp_path / f"{seconds}.wav"
        path.write_bytes(encode_wav(np.zeros(seconds * 16_000, "<i2"), 16_000))
        chat = messages({**rows[0], "audios": [str(path)]})
        if fits:
            assert encoder(processor, max_seconds=60.0)(chat).inputs["input_features"].shape[-1] == 1000
        else:
            with pytest.raises(MediaError, match=rf"{path} is 12\.0 s long.*at most 10\.0 s"):
                encoder(processor, max_seconds=60.0)(chat)


def test_both_pixel_bounds_reach_the_processor(processor, rows):
    """With one of them alone the Omni processor scales 56 × 56 up to 336 × 336."""
    encoded = encoder(processor)(messages(rows[0]))
    assert encoded.inputs["pixel_values_videos"].shape[0] == 2 * 4 * 4
    larger = encoder(processor, min_pixels=12544, max_pixels=12544)(messages(rows[0]))
    assert larger.inputs["pixel_values_videos"].shape[0] == 2 * 8 * 8


def test_the_cut_of_the_padding_changes_no_number(processor, policy, rows):
    encoded = encoder(processor)(messages(rows[0]))
    whole = processor.feature_extractor(
        encoded.audios[0], sampling_rate=16_000, return_attention_mask=True, return_tensors="pt", padding="max_length"
    )
    padded = {"input_features": whole["input_features"], "feature_attention_mask": whole["attention_mask"].long()}
    cut = trim_audio(padded)
    assert padded["input_features"].shape[-1] == 1000
    assert cut["input_features"].shape[-1] == 200
    assert torch.equal(cut["input_features"], encoded.inputs["input_features"])

    def tower(inputs):
        with torch.no_grad():
            return policy.thinker.get_audio_features(
                inputs["input_features"], inputs["feature_attention_mask"], None, return_dict=True
            ).last_hidden_state

    assert tower(cut).shape[0] == 50
    assert torch.equal(tower(cut), tower(padded))


def test_the_cut_keeps_the_longest_of_a_batch():
    mask = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])
    cut = trim_audio({"feature_attention_mask": mask, "input_features": torch.arange(30.0).view(2, 3, 5)})
    assert cut["feature_attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert cut["input_features"][1, 2].tolist() == [25.0, 26.0, 27.0]


def test_nothing_to_cut_without_audio():
    inputs = {"pixel_values_videos": torch.zeros(1)}
    assert trim_audio(inputs) is inputs
