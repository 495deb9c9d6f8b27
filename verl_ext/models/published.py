"""Qwen2.5-Omni's published shapes, for what needs no weights: estimates, and models on torch's meta device.

From the `thinker_config` of huggingface.co/Qwen/Qwen2.5-Omni-3B and -7B, as their fine-tuned Thinkers repeat it
(OpenMOSS-Team/RoboOmni-LIBERO-Object for 3B, VoiceNet/voiceclap-large for 7B).
"""

from __future__ import annotations

from typing import Any

TEXT = {
    "Qwen/Qwen2.5-Omni-3B": {
        "hidden_size": 2048,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "intermediate_size": 11_008,
        "vocab_size": 151_936,
    },
    "Qwen/Qwen2.5-Omni-7B": {
        "hidden_size": 3584,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "intermediate_size": 18_944,
        "vocab_size": 152_064,
    },
}


def published_config(name: str) -> Any:
    """The full Omni config (`Qwen2_5OmniConfig`) of a published model, its talker left out.

    Raises:
        KeyError: no such model.
    """
    from transformers import Qwen2_5OmniConfig

    text = TEXT[name]
    rope = {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1_000_000.0}
    thinker = {
        "text_config": {**text, "rope_parameters": rope, "tie_word_embeddings": False},
        # The library's default width of the vision tower, 3584, is not the published one.
        "vision_config": {"hidden_size": 1280, "depth": 32, "num_heads": 16, "out_hidden_size": text["hidden_size"]},
        "audio_config": {"d_model": 1280, "encoder_layers": 32, "output_dim": text["hidden_size"]},
        "vision_start_token_id": 151_652,
        "vision_end_token_id": 151_653,
        "tie_word_embeddings": False,
    }
    return Qwen2_5OmniConfig(
        thinker_config=thinker,
        talker_config={"vocab_size": 200_000},
        tie_word_embeddings=False,
        attn_implementation="sdpa",
    )
