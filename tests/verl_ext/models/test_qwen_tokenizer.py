"""The tokenizer that is made from the ranks must be Qwen's."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verl_ext.models.qwen_tokenizer import RANKS, rank_file, read_ranks


def encode(qwen, text):
    return qwen.encode(text, add_special_tokens=False)


def test_every_rank_is_a_token(qwen):
    ranks = read_ranks(rank_file())
    assert sorted(ranks.values()) == list(range(RANKS))
    assert len(set(qwen.get_vocab().values()) & set(range(RANKS))) == RANKS


def test_ids_are_qwens(qwen):
    assert encode(qwen, "Hello, world!") == [9707, 11, 1879, 0]
    assert encode(qwen, "hello") == [14990]
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|IMAGE|>", "<|VIDEO|>", "<tool_call>")
    assert qwen.convert_tokens_to_ids(list(names)) == [151643, 151644, 151645, 151646, 151655, 151656, 151657]
    assert qwen.eos_token_id == 151645


def test_special_tokens_are_skipped_and_plain_added_ones_are_not(qwen):
    ids = encode(qwen, "<|im_start|>a<tool_call>b<|im_end|>")
    assert qwen.decode(ids, skip_special_tokens=True) == "a<tool_call>b"


def test_text_is_encoded_as_by_tiktoken(qwen):
    """tiktoken knows nothing of merges, so this also tells that they were recovered rightly."""
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    tiktoken = pytest.importorskip("tiktoken")
    oracle = tiktoken.Encoding(
        "qwen", pat_str=PRETOKENIZE_REGEX, mergeable_ranks=read_ranks(rank_file()), special_tokens={}
    )
    pieces = st.sampled_from(["<think>", "</think>", "<answer>", "happy", "Sad", ", ", "\n", "恐惧", "😀", "é", "123"])

    @settings(max_examples=50)
    @given(st.lists(pieces | st.text(max_size=8)).map("".join))
    def check(text):
        text = qwen.backend_tokenizer.normalizer.normalize_str(text)
        assert encode(qwen, text) == oracle.encode(text, disallowed_special=())
        assert qwen.decode(encode(qwen, text)) == text

    check()
