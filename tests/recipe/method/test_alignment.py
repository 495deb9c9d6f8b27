"""Words of an answer in tokens, on Qwen's vocabulary and on a small one.

What must hold of every response is in `check`, which counts bytes where `align` searches; tables say by hand which
token a word starts in on Qwen's vocabulary.
"""

from functools import lru_cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recipe.mer_r1.method.alignment import EMPTIED_THOUGHT, align
from recipe.mer_r1.method.answer import FAST_PREFIX, parse

THOUGHT = "<think>The face looks sad.</think>"
WORDS = "happy, sad"


def encode(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False)


@lru_cache
def bytes_of_tokens(tokenizer):
    """What each id spells; special tokens nothing."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    byte = {character: byte for byte, character in bytes_to_unicode().items()}
    added = tokenizer.added_tokens_decoder
    return [
        (b"" if added[token].special else piece.encode()) if token in added else bytes(map(byte.get, piece))
        for token, piece in enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
    ]


def spelt(tokenizer, ids):
    """The bytes of tokens; ids beyond the tokenizer's spell nothing."""
    table = bytes_of_tokens(tokenizer)
    return b"".join(table[token] for token in ids if token < len(table))


@lru_cache
def tokens_of_bytes(tokenizer):
    """The id of each single byte."""
    table = bytes_of_tokens(tokenizer)
    return [table.index(bytes([byte])) for byte in range(256)]


def in_bytes(tokenizer, raw):
    """One token a byte."""
    return [tokens_of_bytes(tokenizer)[byte] for byte in raw]


def byte_offset(raw, text, character):
    """The byte a character of `raw.decode(errors="replace")` starts at."""
    ways = [
        at
        for at in range(len(raw) + 1)
        if raw[:at].decode(errors="replace") == text[:character]
        and raw[at:].decode(errors="replace") == text[character:]
    ]
    assert len(ways) == 1
    return ways[0]


def check(tokenizer, ids):
    """Everything that holds of any response; returns what `align` found."""
    aligned = align(ids, tokenizer)
    raw = spelt(tokenizer, ids)
    assert aligned.text == tokenizer.decode(ids, skip_special_tokens=True) == raw.decode(errors="replace")
    assert aligned.answer == parse(aligned.text)
    assert [word.text for word in aligned.words] == aligned.answer.words
    if not aligned.words:
        assert aligned.branch_ids == []
        return aligned

    opening = byte_offset(raw, aligned.text, aligned.text.rindex("<answer>", 0, aligned.answer.spans[0][0]))
    holders = []  # the token of each word, own or not
    for word, (start, _) in zip(aligned.words, aligned.answer.spans, strict=True):
        place = byte_offset(raw, aligned.text, start)
        holder = next(n for n in range(len(ids)) if len(spelt(tokenizer, ids[: n + 1])) > place)
        tag_in_holder = len(spelt(tokenizer, ids[:holder])) <= opening
        alone = holder not in holders and not tag_in_holder
        assert word.slow == (holder if alone else None)
        assert (word.fast is None) == (word.slow is None)
        if alone:
            assert ids[word.slow] == aligned.branch_ids[word.fast]
        holders.append(holder)

    # The branch is the emptied thought and the answer up to the token in which the last word begins, …
    end = len(spelt(tokenizer, ids[: holders[-1] + 1]))
    assert spelt(tokenizer, aligned.branch_ids) == EMPTIED_THOUGHT.encode() + raw[opening:end]
    text = tokenizer.decode(aligned.branch_ids, skip_special_tokens=True)
    assert text.startswith(FAST_PREFIX)
    # … in the response's own tokens, but for one that begins before the tag.
    first = next(n for n in range(len(ids)) if len(spelt(tokenizer, ids[: n + 1])) > opening)
    whole = first if len(spelt(tokenizer, ids[:first])) == opening else first + 1
    kept = ids[whole : holders[-1] + 1]
    assert aligned.branch_ids[len(aligned.branch_ids) - len(kept) :] == kept
    return aligned


def pieces(tokenizer, ids, aligned):
    """Each word with the text of the token it starts in."""
    return [(w.text, None if w.slow is None else tokenizer.decode([ids[w.slow]])) for w in aligned.words]


# Response, and its words. Every one is also checked by `check`, on both vocabularies.
RESPONSES = {
    "plain": (f"{THOUGHT}<answer>happy, sad</answer>", ["happy", "sad"]),
    "fast form": (f"{EMPTIED_THOUGHT}<answer>happy, sad</answer>", ["happy", "sad"]),
    "blank line before the answer": (f"{THOUGHT}\n\n<answer>happy, sad</answer>", ["happy", "sad"]),
    "answer on its own line": (f"{THOUGHT}\n<answer>\nhappy, sad\n</answer>\n", ["happy", "sad"]),
    "blank before the answer": (f"{THOUGHT} <answer> happy , sad </answer>", ["happy", "sad"]),
    "words of several tokens": (
        f"{THOUGHT}<answer>heartbroken, self-assured, worn out</answer>",
        ["heartbroken", "self-assured", "worn out"],
    ),
    "no blanks": (f"{THOUGHT}<answer>worried,sad,calm</answer>", ["worried", "sad", "calm"]),
    "capitals": (f"{THOUGHT}<answer>Happy, SAD,Calm</answer>", ["Happy", "SAD", "Calm"]),
    "duplicates": (f"{THOUGHT}<answer>happy, Happy, happy</answer>", ["happy", "Happy", "happy"]),
    "list": (f"{THOUGHT}<answer>['happy', \"sad\",angry]</answer>", ["happy", "sad", "angry"]),
    "list without quotes": (f"{THOUGHT}<answer>[happy]</answer>", ["happy"]),
    "two answers, one thought": (
        f"<answer>sad, calm</answer>{THOUGHT}<answer>happy, sad</answer>",
        ["happy", "sad"],
    ),
    "two answers after the thought": (f"{THOUGHT}<answer>happy</answer><answer>sad</answer>", ["happy"]),
    "tag in the answer": (f"{THOUGHT}<answer>happy, <answer>sad</answer>", ["happy", "<answer>sad"]),
    "doubled tag": (f"{THOUGHT}<answer><answer>sad</answer>", ["<answer>sad"]),
    "the thought quotes an answer": (
        "<think>Not <answer>sad</answer>.</think><answer>happy</answer>",
        ["happy"],
    ),
    "no thought": ("<answer>happy, sad</answer>", ["happy", "sad"]),
    "text behind the answer": (f"{THOUGHT}<answer>happy</answer> That is all: sad.", ["happy"]),
    "no answer": ("The person is happy, sad.", []),
    "nothing": ("", []),
    "empty answer": (f"{THOUGHT}<answer></answer>", []),
    "blank answer": (f"{THOUGHT}<answer> \n </answer>", []),
    "separators alone": (f"{THOUGHT}<answer>,, ',</answer>", []),
    "cut off in the answer": (f"{THOUGHT}<answer>happy, sa", []),
    "cut off in the thought": ("<think>The face looks", []),
    "cut off in the closing tag": (f"{THOUGHT}<answer>happy</ans", []),
    "cut off in a second answer": (f"{THOUGHT}<answer>happy</answer><answer>sa", ["happy"]),
    "words no wheel knows": (f"{THOUGHT}<answer>table, 17, blorp!</answer>", ["table", "17", "blorp!"]),
    "Chinese": ("<think>这个人很高兴。</think><answer>恐惧, 悲伤,happy</answer>", ["恐惧", "悲伤", "happy"]),
    "German": (f"{THOUGHT}<answer>ärgerlich, wütend</answer>", ["ärgerlich", "wütend"]),
    "emoji": ("<think>😀</think><answer>😀, 👨‍👩‍👧, sad</answer>", ["😀", "👨‍👩‍👧", "sad"]),
    # Decomposed letters, which encoding composes: the tokens decide, not the text they were made from.
    "combining": (f"{THOUGHT}<answer>cafe\u0301, sad</answer>", ["caf\u00e9", "sad"]),
}


@pytest.mark.parametrize("way", ["as the tokenizer spells it", "in bytes", "ended"])
@pytest.mark.parametrize("name", RESPONSES)
def test_every_response_is_aligned(name, way, tokenizer):
    text, words = RESPONSES[name]
    ids = encode(tokenizer, text)
    if way == "in bytes":
        ids = in_bytes(tokenizer, spelt(tokenizer, ids))
    elif way == "ended":
        ids += [tokenizer.eos_token_id] + [tokenizer.pad_token_id] * 2
    aligned = check(tokenizer, ids)
    assert [word.text for word in aligned.words] == words
    assert all(word.slow is not None for word in aligned.words)


# By hand from the vocabulary: the token a word starts in.
QWEN = [
    (f"{THOUGHT}<answer>happy, sad</answer>", [("happy", "happy"), ("sad", " sad")]),
    (f"{THOUGHT}<answer>happy,sad</answer>", [("happy", "happy"), ("sad", ",s")]),
    (f"{THOUGHT}<answer>worried</answer>", [("worried", ">w")]),
    (f"{THOUGHT}<answer>sad, joyful</answer>", [("sad", ">s"), ("joyful", " joyful")]),
    (f"{THOUGHT}<answer>happiness,Happy,SAD</answer>", [("happiness", "h"), ("Happy", "Happy"), ("SAD", ",S")]),
    (f"{THOUGHT}<answer> happy , sad </answer>", [("happy", " happy"), ("sad", " sad")]),
    (
        f"{THOUGHT}\n\n<answer>\n[happy, 'sad', \"angry\",'calm']</answer>",
        [("happy", "[h"), ("sad", "sad"), ("angry", "ang"), ("calm", "cal")],
    ),
    (f"{THOUGHT}<answer>[happy]</answer>", [("happy", "happy")]),
    (f"{THOUGHT}<answer>恐惧, 悲伤, 😀</answer>", [("恐惧", "恐惧"), ("悲伤", " \ufffd"), ("😀", " 😀")]),
    # One token, `,:,:`, holds two of these "words": only the first has it.
    (f"{THOUGHT}<answer>happy,:,: sad</answer>", [("happy", "happy"), (":", ",:,:"), (": sad", None)]),
]


@pytest.mark.parametrize(("text", "expected"), QWEN)
def test_the_token_a_word_starts_in_on_qwens_vocabulary(text, expected, qwen):
    ids = encode(qwen, text)
    assert pieces(qwen, ids, check(qwen, ids)) == expected


def test_positions_of_a_plain_response_on_qwens_vocabulary(qwen):
    text = "<think>a</think>\n<answer>happy, sad</answer>"
    ids = encode(qwen, text)
    assert [qwen.decode([token]) for token in ids] == [
        *("<th", "ink", ">a", "</", "think", ">\n", "<", "answer", ">", "happy", ",", " sad", "</", "answer", ">")
    ]
    aligned = align(ids, qwen)
    assert [(word.slow, word.fast) for word in aligned.words] == [(9, 8), (11, 10)]
    # `<` stands alone in the response, so it does in the branch, where Qwen itself would write `><`.
    assert [qwen.decode([token]) for token in aligned.branch_ids] == [
        *("<th", "ink", "></", "think", ">", "<", "answer", ">", "happy", ",", " sad")
    ]


def test_a_token_across_the_tags_is_encoded_anew_with_the_emptied_thought(qwen):
    ids = encode(qwen, "<think>a</think><answer>happy</answer>")
    assert qwen.decode([ids[5]]) == "><"
    assert align(ids, qwen).branch_ids == encode(qwen, "<think></think><answer>happy")
    # A blank that belongs to the token is not in the fast form.
    ids = encode(qwen, "<think>a</think> <answer>happy</answer>")
    assert qwen.decode([ids[6]]) == " <"
    assert align(ids, qwen).branch_ids == encode(qwen, "<think></think><answer>happy")


def test_the_fast_form_is_its_own_branch(tokenizer):
    ids = encode(tokenizer, f"{EMPTIED_THOUGHT}<answer>happy, sad</answer>")
    aligned = check(tokenizer, ids)
    assert aligned.branch_ids == ids[: len(aligned.branch_ids)]
    assert all(word.slow == word.fast for word in aligned.words)


def test_special_tokens_spell_nothing_but_count(tokenizer):
    plain = encode(tokenizer, f"{THOUGHT}<answer>happy, sad</answer>")
    start, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|VIDEO|>"])
    sad = align(plain, tokenizer).words[1]
    ids = [start, *plain[: sad.slow], end, *plain[sad.slow :], tokenizer.eos_token_id]
    aligned = check(tokenizer, ids)
    assert aligned.text == f"{THOUGHT}<answer>happy, sad</answer>"
    assert aligned.words[1].slow == sad.slow + 2
    assert aligned.words[1].fast == sad.fast + 1  # the one in the answer stays in the branch


def test_a_special_token_in_the_middle_of_a_tag_or_a_character(tokenizer):
    raw = "<think></think><answer>恐, sad</answer>".encode()
    ids = in_bytes(tokenizer, raw)
    for place in range(len(ids) + 1):
        aligned = check(tokenizer, [*ids[:place], tokenizer.pad_token_id, *ids[place:]])
        assert [word.text for word in aligned.words] == ["恐", "sad"]


def test_a_plain_added_token_is_text(qwen):
    ids = encode(qwen, f"{THOUGHT}<answer><tool_call>, sad</answer>")
    assert qwen.convert_tokens_to_ids("<tool_call>") in ids
    assert pieces(qwen, ids, check(qwen, ids)) == [("<tool_call>", "<tool_call>"), ("sad", " sad")]


def test_ids_without_a_token_spell_nothing(qwen):
    """The model's vocabulary is padded beyond the tokenizer's."""
    ids = encode(qwen, f"{THOUGHT}<answer>happy</answer>")
    assert [word.text for word in check(qwen, [151_999, *ids[:12], 152_063, *ids[12:]]).words] == ["happy"]


def test_cut_in_the_middle_of_a_character(tokenizer):
    """Wherever the length limit cuts; undecodable bytes become U+FFFD, one character for up to three bytes."""
    raw = "<think>恐😀</think><answer>悲伤, 😀</answer>😀".encode()
    ids = in_bytes(tokenizer, raw)
    found = [check(tokenizer, ids[:length]).words for length in range(len(ids) + 1)]
    assert [bool(words) for words in found] == [False] * (len(ids) - 4) + [True] * 5
    # A character that is cut and then followed by text shifts what is behind it.
    for drop in (
        raw.index("恐".encode()),
        raw.index("恐".encode()) + 2,
        raw.index("悲".encode()),
        raw.index("😀".encode()),
    ):
        check(tokenizer, ids[:drop] + ids[drop + 1 :])


@pytest.fixture(scope="module")
def greedy():
    """A small tokenizer with tokens that hold the tag and a word, and two words: they take words their own token."""
    from tokenizers import AddedToken

    from verl_ext.models.tiny_tokenizer import train_tokenizer

    tokenizer = train_tokenizer([f"{THOUGHT}<answer>{WORDS}</answer>"], ["happy", "sad"], vocab_size=400)
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in ("think><answer>happy", "sad, calm", "é, ")])
    return tokenizer


def test_a_word_in_the_tags_own_token_has_none(greedy):
    ids = encode(greedy, f"{THOUGHT}<answer>happy, sad</answer>")
    assert greedy.convert_tokens_to_ids("think><answer>happy") in ids
    aligned = check(greedy, ids)
    happy, sad = aligned.words
    assert happy.slow is None
    assert happy.fast is None
    assert greedy.decode([aligned.branch_ids[sad.fast]]) == greedy.decode([ids[sad.slow]]) == " sad"
    assert check(greedy, encode(greedy, f"{THOUGHT}<answer>happy</answer>")).words[0].slow is None


def test_only_the_first_of_two_words_in_a_token_has_it(greedy):
    ids = encode(greedy, f"{THOUGHT}<answer>angry,sad, calm, happy</answer>")
    assert greedy.convert_tokens_to_ids("sad, calm") in ids
    placed = [word.text for word in check(greedy, ids).words if word.slow is not None]
    assert placed == ["angry", "sad", "happy"]


_TAGS = ("<think>", "</think>", "<answer>", "</answer>", "<", ">", "answer", "<answer", "><", "</")
_PIECES = st.sampled_from([*_TAGS, "happy", " sad", "Sad", ",", ", ", "[", "]", "'", '"', "\n", " ", "恐惧", "😀", "é"])
_ANSWERS = st.lists(_PIECES, max_size=5).map(lambda parts: f"</think><answer>{''.join(parts)}</answer>")
_TEXTS = st.lists(_PIECES | st.text(max_size=3) | _ANSWERS, max_size=8).map("".join)


@st.composite
def tokenisations(draw, tokenizer):
    """Tokens of a random response, split at random; sometimes with tokens that have nothing to do with it."""
    raw = draw(_TEXTS).encode()
    cuts = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    ids = []
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        part = raw[start:end]
        try:
            whole = encode(tokenizer, part.decode())
        except UnicodeDecodeError:
            whole = in_bytes(tokenizer, part)
        ids += in_bytes(tokenizer, part) if draw(st.booleans()) else whole
        if draw(st.integers(0, 5)) == 0:
            ids.append(
                draw(st.integers(0, len(bytes_of_tokens(tokenizer)) - 1) | st.sampled_from(tokenizer.all_special_ids))
            )
    return ids


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_tokenisation_of_any_text(tokenizer, data):
    check(tokenizer, data.draw(tokenisations(tokenizer)))


@settings(max_examples=100)
@given(st.data())
def test_any_tokens(tokenizer, data):
    """Random ids, behind and inside an answer."""
    ids = st.lists(st.integers(0, len(bytes_of_tokens(tokenizer)) - 1), max_size=6)
    before, inside = data.draw(ids), data.draw(ids)
    tags = [encode(tokenizer, tag) for tag in ("</think><answer>", "sad</answer>")]
    check(tokenizer, [*before, *tags[0], *inside, *tags[1]])
