"""SmolLM2's tokenizer from a GGUF's metadata, with Qwen2.5-Omni's special tokens added."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from verl_ext.models.tiny_tokenizer import CHAT_TEMPLATE, MEDIA_TOKENS, SPECIAL_TOKENS

_CONTROL = 3
"""GGUF's type of a token that no text spells."""


def read_tokenizer(reader: Any) -> PreTrainedTokenizerFast:
    """The byte-level BPE of a ``gguf.GGUFReader`` (pre-tokeniser "smollm"), grown by the special tokens it lacks.

    Digits stand alone; runs of letters take the blank before them, so that the tags of an answer share no token with
    its words, as in GPT-2's.

    Raises:
        ValueError: the file holds another kind of tokenizer.
    """

    def value(name: str) -> Any:
        return reader.get_field(f"tokenizer.ggml.{name}").contents()

    if (value("model"), value("pre")) != ("gpt2", "smollm"):
        raise ValueError(f"the tokenizer type is {value('model')}/{value('pre')}, but gpt2/smollm is needed")
    tokens = value("tokens")
    merges = [tuple(merge.split(" ")) for merge in value("merges")]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, value("token_type"), strict=True) if kind == _CONTROL]
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(dict.fromkeys([*control, *SPECIAL_TOKENS])),
        extra_special_tokens=dict(MEDIA_TOKENS),
        clean_up_tokenization_spaces=False,
        model_max_length=8192,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped
