"""A small byte-level BPE tokenizer with Qwen2.5-Omni's special tokens and chat shape, trained on a corpus' own text.

It serves models made from scratch (:mod:`verl_ext.models.tiny`). Its pre-tokeniser is GPT-2's: a run of letters with at
most one blank before it is a unit, so the tags of `<think>…</think><answer>word, word</answer>` never share a token
with a letter, and an answer cut out of one response and put behind another prefix keeps its tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|AUDIO|>",
    "<|audio_bos|>",
    "<|audio_eos|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_bos|>",
    "<|vision_eos|>",
    "<|vision_pad|>",
    "<|IMAGE|>",
    "<|VIDEO|>",
)
"""The special tokens of Qwen2.5-Omni's tokenizer, in the order of their ids there."""

MEDIA_TOKENS = {
    "image_token": "<|IMAGE|>",
    "video_token": "<|VIDEO|>",
    "audio_token": "<|AUDIO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
"""The names under which Qwen2_5OmniProcessor asks its tokenizer for the media tokens."""

CHAT_TEMPLATE = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' }}
    {%- if message['content'] is string %}
        {{- message['content'] }}
    {%- else %}
        {%- for part in message['content'] %}
            {%- if part['type'] == 'text' %}
                {{- part['text'] }}
            {%- elif part['type'] == 'video' %}
                {{- '<|vision_bos|><|VIDEO|><|vision_eos|>' }}
            {%- elif part['type'] == 'audio' %}
                {{- '<|audio_bos|><|AUDIO|><|audio_eos|>' }}
            {%- elif part['type'] == 'image' %}
                {{- '<|vision_bos|><|IMAGE|><|vision_eos|>' }}
            {%- else %}
                {{- raise_exception('content part of unknown type: ' + part['type']) }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
"""Qwen's chat shape, without the system turn that Qwen puts before a chat that has none (it would cost tokens)."""

_MAX_WEIGHT = 2000


def train_tokenizer(texts: Sequence[str], words: Iterable[str], vocab_size: int = 1024) -> PreTrainedTokenizerFast:
    """Train a tokenizer on `texts` in which every one of `words` is one token, after a blank and after `>`.

    A phrase counts by its parts (`worn out` → ` worn`, ` out`). Words are made frequent in the training text, then
    checked: an answer's word must not begin with a token it shares with another word.

    Args:
        texts: the corpus' prompts and responses.
        words: the words an answer may hold.
        vocab_size: number of tokens, special ones and the 256 bytes included.

    Raises:
        ValueError: no text; or the vocabulary is too small for the words (the message says which and what to do).
    """
    texts, words = list(texts), sorted(set(words))
    if not texts:
        raise ValueError("there is no text to train the tokenizer on")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # As frequent as if every text named every word twice: their merges come before those of rarer text.
    weight = min(len(texts), _MAX_WEIGHT)
    emphasis = [f">{word} {word}" for word in words] * weight
    tokenizer.train_from_iterator(texts + emphasis, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL_TOKENS),
        extra_special_tokens=dict(MEDIA_TOKENS),
        clean_up_tokenization_spaces=False,
        model_max_length=32768,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    if broken := broken_words(wrapped, words):
        raise ValueError(
            f"{len(broken)} of {len(words)} answer words need more than one token with a vocabulary of {vocab_size} "
            f"({', '.join(broken[:5])} …): raise --vocab-size"
        )
    return wrapped


def broken_words(tokenizer: PreTrainedTokenizerFast, words: Iterable[str]) -> list[str]:
    """The words that are not one token a part both after a blank and right after `>`."""
    split = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str

    def intact(text: str) -> bool:
        return len(tokenizer.encode(text, add_special_tokens=False)) == len(split(text))

    return [word for word in words if not (intact(word) and intact(f" {word}"))]
