"""Fixtures of verl_ext's tests: the tiny model's processor and policy, rows of the made corpus."""

import pytest


@pytest.fixture(scope="session")
def processor(tiny_model):
    """Qwen2.5-Omni's processor with the tiny model's tokenizer, bound as verl gets it."""
    from transformers import AutoConfig, AutoProcessor

    from verl_ext.models.processor import bind

    return bind(AutoProcessor.from_pretrained(tiny_model), AutoConfig.from_pretrained(tiny_model))


@pytest.fixture(scope="session")
def policy(tiny_model):
    """The tiny Thinker in fp32; tests leave its weights as they are."""
    import torch

    from verl_ext.models.model import Qwen2_5OmniThinkerPolicy

    return Qwen2_5OmniThinkerPolicy.from_pretrained(tiny_model, dtype=torch.float32, attn_implementation="sdpa").eval()


@pytest.fixture(scope="session")
def rows(micro_corpus):
    """Rows of the RL shard, as lists and dicts, with absolute paths."""
    from verl_ext.data.dataset import load_shard

    return load_shard(micro_corpus / "shards" / "rl.parquet").to_list()


@pytest.fixture(scope="session")
def long_row(rows, tmp_path_factory):
    """A row with a clip of six seconds (three of the corpus in a row): three chunks of two seconds when interleaved."""
    import numpy as np

    from data_prep.media import encode_mp4, encode_wav, pcm16
    from verl_ext.data.media import read_audio, read_video

    parts = rows[:3]
    frames = [frame for row in parts for frame in read_video(row["videos"][0]).frames_TCHW.permute(0, 2, 3, 1).numpy()]
    sound = np.concatenate([read_audio(row["audios"][0]) for row in parts])
    folder = tmp_path_factory.mktemp("long")
    (folder / "long.mp4").write_bytes(encode_mp4(frames, 2, sound, 16_000))
    (folder / "long.wav").write_bytes(encode_wav(pcm16(sound), 16_000))
    return {**rows[0], "videos": [str(folder / "long.mp4")], "audios": [str(folder / "long.wav")]}
