"""The published numbers of parameters of Qwen2.5-Omni; see each number."""

from dataclasses import dataclass

from verl_ext.models.published import TEXT, published_config


@dataclass(frozen=True)
class Published:
    """One size: parameters in billions (what is published, to the digits published)."""

    model: str
    thinker: tuple[float, float]
    """Between these, in billions."""
    without_embedding: float
    """Of the text model, in billions, to two digits."""

    @property
    def text(self):
        """The text model's shape."""
        return TEXT[self.model]


PUBLISHED = {
    "omni3b": Published(
        model="Qwen/Qwen2.5-Omni-3B",
        # "5B params" of a Thinker taken out of it (huggingface.co/ytaek-oh/Qwen2.5-Omni-3B-Thinker). With the head tied
        # to the embedding it would be 4.4.
        thinker=(4.5, 5.5),
        # "2.77B" (huggingface.co/Qwen/Qwen2.5-3B), whose blocks these are.
        without_embedding=2.77,
    ),
    "omni7b": Published(
        model="Qwen/Qwen2.5-Omni-7B",
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
    """The full Omni config of a preset's model."""
    return published_config(PUBLISHED[name].model)
