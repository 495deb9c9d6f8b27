import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.seam

WORDS = ("happy", "sad", "terrified", "resentful", "worn out", "self-assured")
TEXTS = [
    f"<video><audio>Subtitle: we won the game.\nWhat does the person feel?\n<think>The face looks {word}.</think>"
    f"<answer>{word}, calm</answer>"
    for word in WORDS
]


@pytest.fixture(scope="module")
def tokenizer():
    from verl_ext.models.tiny_tokenizer import train_tokenizer

    return train_tokenizer(TEXTS, WORDS, vocab_size=640)


def encode(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False)


@pytest.mark.parametrize("word", ["happy", "sad", "terrified", "resentful"])
def test_word_is_one_token_after_a_blank_and_after_the_tag(tokenizer, word):
    assert len(encode(tokenizer, f" {word}")) == 1
    tag = encode(tokenizer, "<answer>")
    assert encode(tokenizer, f"<answer>{word}")[: len(tag)] == tag
    assert len(encode(tokenizer, f"<answer>{word}")) == len(tag) + 1


def test_phrase_is_one_token_a_part(tokenizer):
    assert [tokenizer.decode([token]) for token in encode(tokenizer, " worn out")] == [" worn", " out"]
    assert [tokenizer.decode([token]) for token in encode(tokenizer, "self-assured")] == ["self", "-", "assured"]


def test_special_tokens_are_whole_and_keep_their_order(tokenizer):
    from verl_ext.models.tiny_tokenizer import SPECIAL_TOKENS

    assert [encode(tokenizer, token) for token in SPECIAL_TOKENS] == [[i] for i in range(len(SPECIAL_TOKENS))]
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token == "<|endoftext|>"


@given(st.text(max_size=40))
@settings(deadline=None)
def test_any_text_survives(tokenizer, text):
    assert tokenizer.decode(encode(tokenizer, text)) == unicodedata.normalize("NFC", text)


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="<|>"), max_size=30))
@settings(deadline=None)
def test_an_answer_has_the_same_tokens_behind_every_thought(tokenizer, thought):
    answer = encode(tokenizer, "happy, terrified</answer>")
    slow = encode(tokenizer, f"<think>{thought}</think><answer>happy, terrified</answer>")
    assert slow[-len(answer) :] == answer
    prefix = encode(tokenizer, "<think></think><answer>")
    assert encode(tokenizer, "<think></think><answer>happy, terrified</answer>") == prefix + answer


def test_chat_template(tokenizer):
    messages = [
        {"role": "user", "content": [{"type": "video"}, {"type": "audio"}, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": "Calm."},
    ]
    assert tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>user\n<|vision_bos|><|VIDEO|><|vision_eos|><|audio_bos|><|AUDIO|><|audio_eos|>What?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert tokenizer.apply_chat_template(messages, tokenize=False).endswith("<|im_start|>assistant\nCalm.<|im_end|>\n")


def test_chat_template_names_an_unknown_part(tokenizer):
    with pytest.raises(Exception, match="unknown type: smell"):
        tokenizer.apply_chat_template([{"role": "user", "content": [{"type": "smell"}]}], tokenize=False)


def test_too_small_a_vocabulary_names_words():
    from verl_ext.models.tiny_tokenizer import train_tokenizer

    with pytest.raises(ValueError, match=r"answer words need more than one token.*raise --vocab-size"):
        train_tokenizer(TEXTS, WORDS, vocab_size=280)


def test_no_text_is_an_error():
    from verl_ext.models.tiny_tokenizer import train_tokenizer

    with pytest.raises(ValueError, match="no text"):
        train_tokenizer([], WORDS)


def test_training_is_reproducible_and_ignores_the_order_of_words(tokenizer):
    from verl_ext.models.tiny_tokenizer import train_tokenizer

    again = train_tokenizer(TEXTS, reversed(WORDS), vocab_size=640)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
