"""What the tests of the export share: a run's folder, a complete tiny Qwen2.5-Omni."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch


def run_folder(out: Path, model: Path, state: dict[str, torch.Tensor], step: int = 3, actor: bool = True) -> Path:
    """A run of one rank that saved one checkpoint: RL's layout, or SFT's."""
    folder = out / "checkpoints" / f"global_step_{step}"
    shards = folder / "actor" if actor else folder
    shards.mkdir(parents=True)
    shutil.copytree(model, shards / "huggingface", ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save(state, shards / "model_world_size_1_rank_0.pt")
    (out / "checkpoints" / "latest_checkpointed_iteration.txt").write_text(str(step))
    lines = [{"step": number, "data": {"val-core/f1": number / 10}} for number in range(1, 6)]
    (out / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return out


def complete_omni(thinker: Path, out: Path) -> Path:
    """A complete Qwen2.5-Omni in several weight files: the tiny Thinker's shapes, a talker of its own, one speaker."""
    from transformers import AutoConfig, AutoProcessor, Qwen2_5OmniConfig, Qwen2_5OmniForConditionalGeneration

    config = AutoConfig.from_pretrained(thinker).thinker_config
    talker = {
        "vocab_size": 64,
        "tts_codec_start_token_id": 61,
        "tts_codec_end_token_id": 62,
        "tts_codec_pad_token_id": 60,
        "tts_codec_mask_token_id": 63,
        "embedding_size": config.text_config.hidden_size,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
    }
    dit = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 16,
        "emb_dim": 16,
        "num_embeds": 65,
        "mel_dim": 16,
        "enc_emb_dim": 16,
        "enc_dim": 16,
        "enc_channels": [8, 8, 8, 8, 24],
        "enc_attention_channels": 8,
        "enc_se_channels": 8,
        "look_ahead_layers": [0],
        "look_backward_layers": [0],
    }
    vocoder = {
        "mel_dim": 16,
        "upsample_initial_channel": 16,
        "upsample_rates": [2, 2],
        "upsample_kernel_sizes": [4, 4],
        "resblock_kernel_sizes": [3],
        "resblock_dilation_sizes": [[1, 3, 5]],
    }
    whole = Qwen2_5OmniConfig(
        thinker_config=config.to_dict(),
        talker_config=talker,
        token2wav_config={"dit_config": dit, "bigvgan_config": vocoder},
        enable_audio_output=True,
    )
    torch.manual_seed(1)
    model = Qwen2_5OmniForConditionalGeneration(whole).to(torch.bfloat16)
    model.save_pretrained(out, max_shard_size="1MB")
    AutoProcessor.from_pretrained(thinker).save_pretrained(out)
    torch.save({"Chelsie": {"bos_token": 1}}, out / "spk_dict.pt")
    (out / "README.md").write_text("the original card")
    return out
