"""Prompt tokens from numbers alone are those that the processor makes of the clip."""

from __future__ import annotations

import json

import pytest

from data_prep.check.decode import inspect
from data_prep.check.settings import read_preset
from data_prep.check.tokens import counter
from data_prep.check.verdicts import Media
from data_prep.clip import CorpusError
from data_prep.media import encode_mp4, encode_wav, pcm16
from data_prep.places import Root
from data_prep.readers import get

pytestmark = pytest.mark.seam


@pytest.mark.parametrize("audio_in_video", [False, True])
@pytest.mark.parametrize("preset", [None, "tiny"])
def test_counted_tokens_are_the_encoded_ones(preset, audio_in_video, micro_corpus, tiny_model, tmp_path):
    import datasets
    import numpy as np
    from broken import tone
    from transformers import AutoProcessor

    from data_prep.rows import to_row
    from verl_ext.data.dataset import build_messages, sound_from_video
    from verl_ext.data.encode import MediaConfig, PromptEncoder

    media_settings = read_preset(preset)[0] | {"use_audio_in_video": audio_in_video}
    encoder = PromptEncoder(AutoProcessor.from_pretrained(tiny_model), MediaConfig.from_config(media_settings))
    count = counter(tiny_model, media_settings)
    clip = next(get("micro").clips(Root(micro_corpus)))
    shapes = [((56, 56), 4, 2, 2.0), ((90, 160), 7, 3, 1.013), ((240, 136), 75, 25, 2.99)]
    for number, ((height, width), frames, fps, seconds) in enumerate(shapes):
        video, audio = tmp_path / f"{number}.mp4", tmp_path / f"{number}.wav"
        video.write_bytes(encode_mp4([np.zeros((height, width, 3), np.uint8)] * frames, fps, tone(seconds), 16_000))
        audio.write_bytes(encode_wav(pcm16(tone(seconds)), 16_000))
        row = to_row(clip, micro_corpus, data_source="micro") | {"videos": [str(video)], "audios": [str(audio)]}
        if audio_in_video:
            (row,), audio = sound_from_video(datasets.Dataset.from_list([row])), video
        media = Media((video, inspect(video, "video", 16_000)), (audio, inspect(audio, "audio", 16_000)))
        assert count(clip, media) == len(encoder(build_messages(row)).prompt_ids)


def test_the_command_shows_what_a_limit_would_drop(micro_corpus, tiny_model, tmp_path):
    from test_check import cli

    common = ("--corpus", "micro", "--model", str(tiny_model))
    assert cli(micro_corpus, tmp_path / "out", *common).exit_code == 0
    tokens = json.loads((tmp_path / "out/report.json").read_text())["prompt_tokens"]
    most = int(tokens["max"])
    result = cli(micro_corpus, tmp_path / "out", *common, "--max-prompt-length", str(most - 1))
    assert result.exit_code == 1
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["counts"]["prompt_too_long"]["clips"] == sum(clip["tokens"] == most for clip in report["clips"])
    assert "would be dropped" in result.output


def test_a_folder_without_a_processor_is_named(tmp_path):
    with pytest.raises(CorpusError, match="--model"):
        counter(tmp_path, {})


def test_another_model_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(CorpusError, match="model type 'llama'"):
        counter(tmp_path, {})


def test_a_presets_limits_hold(micro_corpus, tiny_model, tmp_path):
    from test_check import cli

    preset = tmp_path / "short.yaml"
    preset.write_text("media: {fps: 2.0, max_frames: 4, min_pixels: 3136, max_pixels: 3136}\nmax_prompt_length: 30\n")
    asked = ("--corpus", "micro", "--model", str(tiny_model), "--preset", str(preset))
    assert cli(micro_corpus, tmp_path / "out", *asked).exit_code == 1
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["counts"]["prompt_too_long"]["clips"] == len(report["clips"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("media: {frames_per_second: 2}\nmax_prompt_length: 30\n", "frames_per_second"),
        ("media: {fps: 2}\n", "it needs the keys media and max_prompt_length"),
        (None, "use one of omni3b, omni7b, smol, tiny"),
    ],
)
def test_a_preset_that_is_none(text, message, micro_corpus, tiny_model, tmp_path):
    from test_check import cli

    preset = tmp_path / "preset.yaml"
    if text:
        preset.write_text(text)
    asked = ("--corpus", "micro", "--model", str(tiny_model), "--preset", str(preset))
    done = cli(micro_corpus, tmp_path / "out", *asked)
    assert done.exit_code == 2
    assert message in done.output.replace("\n", " ")
