"""A random Thinker of a published architecture with few layers and small widths: real tokens, no download.

    python -m verl_ext.models.reduced --of Qwen/Qwen2.5-Omni-7B --shards sft.parquet --out DIR [--layers 2]

The size of a head, M-RoPE's sections, the vocabulary, the tokenizer, the patches, the windows and the processor are the
published ones. The weights are random, but the model recites the responses of the shards (:mod:`.reciting`), so that
its samples are well formed, have emotion words and end.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from verl_ext.models.published import TEXT, published_config

HEADS, KV_HEADS, MLP = 2, 1, 512
"""Of the text model. Its heads have the published 128 dimensions, so that it is 256 wide."""
VISION_HEADS, AUDIO_HEADS = 2, 2
"""Of 80 and 64 dimensions, as published."""
STD = 0.02
"""Of every matrix, as `initializer_range` of the published configuration."""
AUDIO_SECONDS, MIN_PIXELS, MAX_PIXELS = 300, 3_136, 12_845_056
"""Of the published `preprocessor_config.json`; a run gives its own bounds of pixels with each call."""


class ReducedError(ValueError):
    """The model to reduce is not known."""


def read_config(name: str) -> Any:
    """The full Omni config of a published model, or of the folder of a Qwen2.5-Omni.

    Raises:
        ReducedError: neither.
    """
    if name in TEXT:
        return published_config(name)
    if (Path(name) / "config.json").is_file():
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(name)
        if hasattr(config, "thinker_config"):
            return config
    raise ReducedError(f"{name}: not a folder with a Qwen2.5-Omni, and not one of {', '.join(TEXT)}")


def reduce_config(config: Any, layers: int) -> Any:
    """The same architecture with `layers` blocks in each of the three stacks, and small widths.

    Raises:
        ReducedError: `layers` is not in 1 to the published number of text layers.
    """
    from transformers import Qwen2_5OmniConfig

    thinker = config.thinker_config.to_dict()
    text, vision, audio = (thinker[f"{part}_config"] for part in ("text", "vision", "audio"))
    if not 1 <= layers <= text["num_hidden_layers"]:
        raise ReducedError(f"--layers {layers}: choose 1 to {text['num_hidden_layers']}, as many as the model has")
    head = text["hidden_size"] // text["num_attention_heads"]
    text |= {"hidden_size": HEADS * head, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS}
    text |= {"intermediate_size": MLP, "num_hidden_layers": layers, "max_window_layers": layers}
    text.pop("layer_types", None)  # one for each layer, made anew
    head = vision["hidden_size"] // vision["num_heads"]
    vision |= {"hidden_size": VISION_HEADS * head, "num_heads": VISION_HEADS, "depth": layers}
    vision |= {"intermediate_size": 2 * VISION_HEADS * head, "out_hidden_size": text["hidden_size"]}
    # The last block sees the whole frames, those before it windows, as in each quarter of the published tower.
    vision["fullatt_block_indexes"] = [layers - 1]
    head = audio["d_model"] // audio["encoder_attention_heads"]
    audio |= {"d_model": AUDIO_HEADS * head, "encoder_attention_heads": AUDIO_HEADS, "encoder_layers": layers}
    audio |= {"num_hidden_layers": layers, "encoder_ffn_dim": 2 * AUDIO_HEADS * head}
    audio["output_dim"] = text["hidden_size"]
    return Qwen2_5OmniConfig(
        thinker_config=thinker,
        talker_config={"vocab_size": 200_000},  # never built
        enable_audio_output=False,
        tie_word_embeddings=False,
    )


def changed(published: Any, reduced: Any) -> dict[str, tuple[Any, Any]]:
    """What differs between the two Thinkers' configurations: dotted key -> (published, reduced)."""
    before, after = (_flat(config.thinker_config.to_dict()) for config in (published, reduced))
    keys = sorted(before.keys() | after.keys())
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves = {}
    for key, value in tree.items():
        leaves |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves


def published_processor(tokenizer: Any) -> Any:
    """Qwen2.5-Omni's processor with the settings that the published one is saved with."""
    from verl_ext.models.tiny import omni_processor

    return omni_processor(tokenizer, (MIN_PIXELS, MAX_PIXELS), AUDIO_SECONDS, tokenizer.chat_template)


def make_reduced(of: str, texts: Sequence[str], out: str | Path, *, layers: int = 2, seed: int = 0) -> dict[str, int]:
    """Write the checkpoint folder `out`, in bf16 as the published one is.

    Args:
        of: see :func:`read_config`.
        texts: responses to recite; those that the width of the model has no room for are left out.
        out: folder.
        layers: of each stack.
        seed: of the weights.

    Returns:
        Parameters by part (`text`, `vision`, `audio`).

    Raises:
        ReducedError: an unknown model or number of layers.
        VocabularyError: the tokenizer cannot be made.
    """
    import torch
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    from verl_ext.models import reciting
    from verl_ext.models.checkpoint import save_full_omni
    from verl_ext.models.qwen_tokenizer import qwen_tokenizer
    from verl_ext.models.tiny import draw_weights

    config = reduce_config(read_config(of), layers)
    tokenizer = qwen_tokenizer()
    config.eos_token_id = config.thinker_config.eos_token_id = tokenizer.eos_token_id
    config.pad_token_id = config.thinker_config.pad_token_id = tokenizer.pad_token_id
    with torch.device("meta"):
        thinker = Qwen2_5OmniThinkerForConditionalGeneration(config.thinker_config)
    state = draw_weights(thinker, STD, seed)
    turns = (tokenizer.encode(f"<|im_start|>assistant\n{text}<|im_end|>") for text in texts)
    room = accumulate_within(turns, config.thinker_config.text_config.hidden_size * 3 // 4)
    reciting.teach(state, config.thinker_config.text_config, room, seed)
    save_full_omni(out, state, config, published_processor(tokenizer), torch.bfloat16)
    parts = {"text": ("model.", "lm_head."), "vision": ("visual.",), "audio": ("audio_tower.",)}
    return {
        part: sum(t.numel() for name, t in state.items() if name.startswith(prefixes))
        for part, prefixes in parts.items()
    }


def accumulate_within(texts: Iterable[list[int]], tokens: int) -> list[list[int]]:
    """The first texts that have so many tokens together; at least one."""
    taken: list[list[int]] = []
    for text in texts:
        tokens -= len(text)
        if taken and tokens < 0:
            break
        taken.append(text)
    return taken


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m verl_ext.models.reduced", description=__doc__.split("\n")[0])
    parser.add_argument("--of", required=True, metavar="NAME|DIR", help="a published Qwen2.5-Omni, or its folder")
    parser.add_argument("--shards", nargs="+", required=True, help="parquet shards, whose responses the model recites")
    parser.add_argument("--out", required=True, type=Path, help="folder for the checkpoint")
    parser.add_argument("--layers", type=int, default=2, help="blocks of the text model and of each tower (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random weights")
    args = parser.parse_args(argv)
    from verl_ext.models.tiny import read_shards

    try:
        prompts, texts, _ = read_shards(args.shards)
        responses = [text.removeprefix(f"{prompt}\n") for prompt, text in zip(prompts, texts, strict=True)]
        made = make_reduced(args.of, responses, args.out, layers=args.layers, seed=args.seed)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    counts = ", ".join(f"{part} {count:,}" for part, count in made.items())
    print(f"{args.out}: {args.of} with {args.layers} layer(s): parameters {counts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
