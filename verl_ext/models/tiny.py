"""Make a tiny Qwen2.5-Omni Thinker with random weights and a tokenizer trained on the corpus.

    python -m verl_ext.models.tiny --shards data/shards/sft.parquet --out models/tiny

Architecture, processor, special tokens and checkpoint layout are Qwen2.5-Omni's, so that what trains and serves this
model trains and serves the real one. The same seed and shards give the same bytes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5OmniConfig,
    Qwen2_5OmniProcessor,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    WhisperFeatureExtractor,
)
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from transformers.utils import logging

from verl_ext.models.checkpoint import save_full_omni
from verl_ext.models.tiny_tokenizer import CHAT_TEMPLATE, MEDIA_TOKENS, train_tokenizer

MIN_PIXELS, MAX_PIXELS = 56 * 56, 112 * 112
"""Frame size the processor is saved with. The Omni processor overrides a saved size: pass both at every call too."""


@dataclass(frozen=True)
class TinySize:
    """Sizes of the text model and of the two towers."""

    hidden: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    mlp: int = 256
    tower_hidden: int = 64
    tower_layers: int = 2
    audio_seconds: int = 10
    """The processor pads audio to this length and cuts what is longer."""
    init_std: float = 0.05
    """Of every matrix. The library's 0.02 is for wide models: at these widths training starts much slower with it."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise ValueError(f"{field.name} must be positive, not {getattr(self, field.name)}")
        if self.hidden % self.heads or self.heads % self.kv_heads or (self.hidden // self.heads) % 8:
            raise ValueError(
                f"hidden {self.hidden} must be heads {self.heads} × a multiple of 8, and heads must be a multiple of "
                f"kv_heads {self.kv_heads}"
            )
        if self.tower_hidden % 32:
            raise ValueError(f"tower_hidden must be a multiple of 32, not {self.tower_hidden}")


def make_tiny(
    texts: Sequence[str],
    words: Sequence[str],
    out: str | Path,
    *,
    size: TinySize | None = None,
    vocab_size: int = 1024,
    seed: int = 0,
) -> dict[str, int]:
    """Train the tokenizer, draw the weights, write the checkpoint folder `out`.

    Args:
        texts: prompts and responses of the corpus, for the tokenizer.
        words: the words an answer may hold; each becomes one token.
        out: folder to write.
        size: of the model; None is the default size.
        vocab_size: of the tokenizer at most; a small corpus may fill less.
        seed: of the weights.

    Returns:
        Parameters by part (`text`, `audio`, `vision`, `total`) and `vocab`.
    """
    size = size or TinySize()
    tokenizer = train_tokenizer(texts, words, vocab_size)
    config = tiny_config(tokenizer, size)
    with torch.device("meta"):
        thinker = Qwen2_5OmniThinkerForConditionalGeneration(config.thinker_config)
    state = draw_weights(thinker, size.init_std, seed)
    save_full_omni(out, state, config, tiny_processor(tokenizer, size))
    parts = {"text": "", "audio": "audio_tower.", "vision": "visual."}
    counts = {
        part: sum(t.numel() for name, t in state.items() if name.startswith(prefix)) for part, prefix in parts.items()
    }
    counts["total"] = counts["text"]
    counts["text"] -= counts["audio"] + counts["vision"]
    return {**counts, "vocab": len(tokenizer)}


def tiny_config(tokenizer: PreTrainedTokenizerFast, size: TinySize) -> Qwen2_5OmniConfig:
    """The full Omni config: a Thinker of `size` with the ids of `tokenizer`; no talker."""
    id_of = tokenizer.convert_tokens_to_ids
    half = size.hidden // size.heads // 2
    temporal = half // 4
    height = (half - temporal) // 2
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": size.hidden,
        "intermediate_size": size.mlp,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "max_position_embeddings": 32768,
        "rope_parameters": {
            "rope_type": "default",
            "type": "default",
            "mrope_section": [temporal, height, half - temporal - height],
            "rope_theta": 1_000_000.0,
        },
        "initializer_range": size.init_std,
        "tie_word_embeddings": False,
    }
    audio = {
        "d_model": size.tower_hidden,
        "encoder_layers": size.tower_layers,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 2 * size.tower_hidden,
        "num_mel_bins": 128,
        "output_dim": size.hidden,
        "initializer_range": size.init_std,
    }
    vision = {
        "depth": size.tower_layers,
        "hidden_size": size.tower_hidden,
        "intermediate_size": 2 * size.tower_hidden,
        "num_heads": 4,
        "out_hidden_size": size.hidden,
        # The last block sees the whole frame, those before it windows of 112 pixels.
        "fullatt_block_indexes": [size.tower_layers - 1],
        "initializer_range": size.init_std,
    }
    thinker = Qwen2_5OmniThinkerConfig(
        audio_config=audio,
        vision_config=vision,
        text_config=text,
        audio_token_index=id_of(MEDIA_TOKENS["audio_token"]),
        image_token_index=id_of(MEDIA_TOKENS["image_token"]),
        video_token_index=id_of(MEDIA_TOKENS["video_token"]),
        audio_start_token_id=id_of(MEDIA_TOKENS["audio_bos_token"]),
        audio_end_token_id=id_of(MEDIA_TOKENS["audio_eos_token"]),
        vision_start_token_id=id_of(MEDIA_TOKENS["vision_bos_token"]),
        vision_end_token_id=id_of(MEDIA_TOKENS["vision_eos_token"]),
        user_token_id=tokenizer.encode("user", add_special_tokens=False)[0],
        initializer_range=size.init_std,
        tie_word_embeddings=False,
        architectures=["Qwen2_5OmniThinkerForConditionalGeneration"],
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2_5OmniConfig(
        thinker_config=thinker.to_dict(),
        # Never built; with Qwen's vocabulary its default token ids are valid and loading stays quiet.
        talker_config={"vocab_size": 200_000},
        enable_audio_output=False,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def tiny_processor(tokenizer: PreTrainedTokenizerFast, size: TinySize) -> Qwen2_5OmniProcessor:
    """Qwen2.5-Omni's processor with a shorter audio window: its cost is that of the padding."""
    return omni_processor(tokenizer, (MIN_PIXELS, MAX_PIXELS), size.audio_seconds, CHAT_TEMPLATE)


def omni_processor(
    tokenizer: PreTrainedTokenizerFast, pixels: tuple[int, int], audio_seconds: int, chat_template: str
) -> Qwen2_5OmniProcessor:
    """Qwen2.5-Omni's processor.

    Args:
        tokenizer: of the model.
        pixels: fewest and most of a frame.
        audio_seconds: length that sound is padded to.
        chat_template: of the model.
    """
    size = {"shortest_edge": pixels[0], "longest_edge": pixels[1]}
    return Qwen2_5OmniProcessor(
        image_processor=Qwen2VLImageProcessor(size=size),
        video_processor=Qwen2VLVideoProcessor(size=size),
        feature_extractor=WhisperFeatureExtractor(
            feature_size=128,
            sampling_rate=16000,
            hop_length=160,
            n_fft=400,
            chunk_length=audio_seconds,
            return_attention_mask=True,
        ),
        tokenizer=tokenizer,
        chat_template=chat_template,
    )


def draw_weights(module: torch.nn.Module, std: float, seed: int) -> dict[str, torch.Tensor]:
    """Random fp32 weights for `module` (may be on the meta device): matrices N(0, std²), norms 1, biases 0.

    Drawn in the order of the names, from one generator: the same seed gives the same numbers whatever the library's
    own initialisation does.
    """
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, parameter in sorted(module.named_parameters()):
        if parameter.dim() > 1:
            state[name] = torch.empty(parameter.shape).normal_(0, std, generator=generator)
        else:
            state[name] = (torch.zeros if name.endswith("bias") else torch.ones)(parameter.shape)
    return state


def read_shards(shards: Sequence[str | Path]) -> tuple[list[str], list[str], list[str]]:
    """Prompts, training texts and answer words of parquet shards (verl's columns, `extra_info.reason` if there).

    Raises:
        ValueError: a shard is missing, not parquet, or lacks a column; the message names it.
    """
    import pyarrow.parquet as pq

    prompts, texts, words = [], [], set()
    for shard in shards:
        if not Path(shard).is_file():
            raise ValueError(f"{shard}: no such file; make the shard with `python -m data_prep`")
        try:
            rows = pq.read_table(shard, columns=["prompt", "reward_model", "extra_info"]).to_pylist()
        except Exception as error:
            raise ValueError(f"{shard}: not a shard with columns prompt, reward_model, extra_info ({error})") from error
        for index, row in enumerate(rows):
            labels = row["reward_model"]["ground_truth"]
            if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
                raise ValueError(f"{shard} row {index}: reward_model.ground_truth is {labels!r}; write a list of words")
            prompt = "\n".join(turn["content"] for turn in row["prompt"])
            reason = (row["extra_info"] or {}).get("reason") or ""
            prompts.append(prompt)
            # The shape of a thinking model's response, so that its tags are learnt with the rest.
            texts.append(f"{prompt}\n<think>{reason}</think><answer>{', '.join(labels)}</answer>")
            words.update(labels)
    return prompts, texts, sorted(words)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    # Else warnings that the default talker, which is not made here, names tokens that its vocabulary lacks.
    logging.set_verbosity_error()
    size = TinySize()
    parser = argparse.ArgumentParser(prog="python -m verl_ext.models.tiny", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--shards", nargs="+", required=True, help="parquet shards; the tokenizer is trained on their texts"
    )
    parser.add_argument("--out", required=True, type=Path, help="folder for the checkpoint")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random weights")
    parser.add_argument("--vocab-size", type=int, default=1024, help="number of tokens of the tokenizer")
    for field in fields(TinySize):
        default = getattr(size, field.name)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(default), default=default)
    args = parser.parse_args(argv)
    try:
        size = TinySize(**{field.name: getattr(args, field.name) for field in fields(TinySize)})
        prompts, texts, words = read_shards(args.shards)
        made = make_tiny(texts, words, args.out, size=size, vocab_size=args.vocab_size, seed=args.seed)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    tokenizer = PreTrainedTokenizerFast.from_pretrained(args.out)
    lengths = [len(tokenizer.encode(prompt, add_special_tokens=False)) for prompt in prompts]
    full = [len(tokenizer.encode(text, add_special_tokens=False)) for text in texts]
    print(
        f"{args.out}: {made['total']:,} parameters (text {made['text']:,}, audio {made['audio']:,}, "
        f"vision {made['vision']:,}), vocabulary {made['vocab']}, {len(words)} answer words with one token each\n"
        f"prompt text: median {statistics.median(lengths):.0f} tokens, longest {max(lengths)}; "
        f"with the response: median {statistics.median(full):.0f}, longest {max(full)}; media tokens are not counted"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
