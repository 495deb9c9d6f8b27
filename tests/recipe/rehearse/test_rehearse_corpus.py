"""Clips of real size: what the real processor makes of them."""

import pytest

from recipe.mer_r1.rehearse import corpus


@pytest.mark.parametrize(("pixels", "size"), [(100_352, (448, 896)), (50_176, (448, 448)), (784, (56, 56))])
def test_frames_are_scaled_down_to_all_pixels_that_are_allowed(pixels, size):
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    assert corpus.frame_size(pixels) == size
    height, width = smart_resize(*size, factor=28, min_pixels=784, max_pixels=pixels)
    assert height * width == pixels


@pytest.mark.seam
def test_a_clip_has_the_tokens_that_the_preset_allows_at_most(tmp_path):
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    from recipe.mer_r1.eval.generate import load_preset
    from verl_ext.data.media import read_audio, read_video
    from verl_ext.data.token_count import VideoFacts, audio_tokens, video_grid

    media = load_preset("omni7b", []).media
    (tmp_path / "clip.mp4").write_bytes(corpus.made_video(0, media.max_frames, media.fps, media.max_pixels))
    video = read_video(tmp_path / "clip.mp4", media.fps, media.max_frames)
    assert video.frames_TCHW.shape == (32, 3, 448, 896)
    assert video.fps == pytest.approx(2.0, abs=0.05)
    processor = Qwen2VLVideoProcessor(size={"shortest_edge": media.min_pixels, "longest_edge": media.max_pixels})
    grid = processor(videos=[video.frames_TCHW], return_tensors="pt").video_grid_thw[0].tolist()
    facts = VideoFacts(128, 8.0, 448, 896)
    assert grid == list(video_grid(facts, load_preset_media(media))) == [16, 16, 32]
    assert 16 * 16 * 32 // 4 == 2048
    corpus.write(tmp_path / "both", frames=2, fps=2.0, pixels=784, sampling_rate=16_000)
    sound = read_audio(tmp_path / "both" / "mer2025-dataset" / "audio" / "train_0.wav", 16_000)
    assert len(sound) == 80_000
    assert audio_tokens(len(sound) // 160) == 125


def load_preset_media(media):
    from verl_ext.data.encode import MediaConfig

    return MediaConfig.from_config(media)


def test_the_corpora_are_read_without_a_fault(tmp_path):
    from data_prep import readers
    from data_prep.places import Root

    corpus.write(tmp_path, frames=2, fps=2.0, pixels=784, sampling_rate=16_000)
    clips = {name: list(readers.get(name).clips(Root(tmp_path))) for name in ("mer_caption_plus", "ov_merd_plus")}
    assert [len(found) for found in clips.values()] == [8, 2]
    assert not any(clip.faults for found in clips.values() for clip in found)
    assert clips["mer_caption_plus"][2].labels == ("angry", "impatient")
    assert len(clips["mer_caption_plus"][2].reason.split()) > 30
    assert len({clip.video.read_bytes() for clip in clips["mer_caption_plus"]}) == 8


def test_every_label_is_on_a_wheel():
    from recipe.mer_r1.method.wheel import EmotionWheels

    wheels = EmotionWheels.builtin()
    for _, labels, _ in corpus._TEXTS:
        assert all(wheels.mask([label]) for label in labels.split(", ")), labels
