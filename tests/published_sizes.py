"""Qwen2.5-Omni's published shapes, as its config.json has them, and the published numbers of parameters.

Shapes: the `thinker_config` of huggingface.co/Qwen/Qwen2.5-Omni-3B and -7B, as their fine-tuned Thinkers repeat it
(OpenMOSS-Team/RoboOmni-LIBERO-Object for 3B, VoiceNet/voiceclap-large for 7B). Counts: see each number.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Published:
    """One size: the text model's shape, and parameters in billions (what is published, to the digits published)."""

    text: dict[str, Any]
    thinker: tuple[float, float]
    """Between these, in billions."""
    without_embedding: float
    """Of the text model, in billions, to two digits."""


PUBLISHED = {
    "omni3b": Published(
        text={
            "hidden_size": 2048,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "intermediate_size": 11_008,
            "vocab_size": 151_936,
        },
        # "5B params" of a Thinker taken out of it (huggingface.co/ytaek-oh/Qwen2.5-Omni-3B-Thinker). With the head tied
        # to the embedding it would be 4.4.
        thinker=(4.5, 5.5),
        # "2.77B" (huggingface.co/Qwen/Qwen2.5-3B), whose blocks these are.
        without_embedding=2.77,
    ),
    "omni7b": Published(
        text={
            "hidden_size": 3584,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "intermediate_size": 18_944,
            "vocab_size": 152_064,
        },
        # Safetensors in bf16 of 4.99 + 4.99 + 4.99 + 2.90 GB of a fine-tuned Thinker
        # (huggingface.co/gijs/audsemthinker-qa-grpo): 8.935 billion within the rounding of four files.
        thinker=(8.925, 8.945),
        # "6.53B" (huggingface.co/Qwen/Qwen2.5-7B).
        without_embedding=6.53,
    ),
}

# "approximately 675 million parameters" (Qwen2.5-Omni Technical Report, section 2.2), for both sizes.
VISION_MILLIONS = 675
# The encoder of Whisper-large-v3 (the report, section 2.2), of whose 1,550 million parameters the encoder has 637.
AUDIO_MILLIONS = 637


def config(name: str):
    """The full Omni config of a published size, a talker left out."""
    from transformers import Qwen2_5OmniConfig

    text = PUBLISHED[name].text
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
