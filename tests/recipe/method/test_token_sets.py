"""Sets of first tokens (Eq. 1), on Qwen's vocabulary and on a small one."""

import pytest

from recipe.mer_r1.method.alignment import align
from recipe.mer_r1.method.token_sets import category_sets


class Wheels:
    """Wheels of a test's own: categories and their words by wheel."""

    def __init__(self, **wheels):
        self._wheels = wheels
        self.ids = tuple(wheels)

    def all_categories(self, wheel):
        return list(self._wheels[wheel])

    def words(self, wheel, category):
        return self._wheels[wheel][category]


@pytest.fixture(scope="module")
def dropped(builtin, tokenizer):
    return category_sets(builtin, tokenizer)


@pytest.fixture(scope="module")
def kept(builtin, tokenizer):
    return category_sets(builtin, tokenizer, shared_tokens="keep")


def by_name(sets):
    return dict(zip(sets.names, map(set, sets.token_ids), strict=True))


def test_every_category_of_every_wheel_in_the_wheels_order(builtin, dropped, kept):
    expected = [(wheel, category) for wheel in builtin.ids for category in builtin.all_categories(wheel)]
    assert dropped.names == kept.names == expected
    assert len(dropped.token_ids) == len(kept.token_ids) == len(expected) == 31


def test_tokens_are_sorted_and_distinct(dropped, kept):
    for ids in [*dropped.token_ids, *kept.token_ids]:
        assert ids == sorted(set(ids))


def test_shared_tokens_leave_every_category_of_their_wheel_and_nothing_else_does(builtin, dropped, kept):
    before, after, total = by_name(kept), by_name(dropped), 0
    for wheel in builtin.ids:
        own = [name for name in before if name[0] == wheel]
        shared = {token for name in own for token in before[name] if sum(token in before[other] for other in own) > 1}
        for name in own:
            assert after[name] == before[name] - shared
        total += len(shared)
    assert dropped.dropped == total > 0
    assert kept.dropped == 0


def test_a_token_shared_across_wheels_stays(qwen):
    wheels = Wheels(w1={"a": ["happy"], "b": ["sad"]}, w2={"c": ["sad", "happy"]})
    sets = category_sets(wheels, qwen)
    a, b, c = map(set, sets.token_ids)
    assert sets.dropped == 0
    assert a | b == c
    assert not a & b


def test_a_set_holds_blank_capital_and_merged_forms_of_a_word(qwen):
    (ids,) = category_sets(Wheels(w1={"a": ["worried"]}), qwen).token_ids
    # By hand: wor·ried alone; behind a blank one token; >w·or·ried; behind a quote or line end as alone; and so on.
    expected = {"wor", " worried", ">w", ",w", "[w", "W", " Wor", ",W", "[W", '"W'}
    assert {qwen.decode([token]) for token in ids} == expected


def test_words_of_one_token_are_whole_in_the_set(qwen, builtin):
    sets = by_name(category_sets(builtin, qwen))
    for wheel in ("w1", "w2"):  # the wheels that name it; on others it is mapped by its family
        for form in ("happy", " happy", "Happy", " Happy"):
            (token,) = qwen.encode(form, add_special_tokens=False)
            assert token in sets[wheel, builtin.category("happy", wheel)]


def test_no_token_is_special_or_a_separator_alone(tokenizer, dropped, kept):
    special = set(tokenizer.all_special_ids)
    for ids in [*dropped.token_ids, *kept.token_ids]:
        assert not special & set(ids)
        assert all(any(map(str.isalpha, tokenizer.decode([token]))) for token in ids)


LISTS = {
    "blanks": lambda words: ", ".join(words),
    "no blanks": lambda words: ",".join(words),
    "capitals": lambda words: ", ".join(word.capitalize() for word in words),
    "bracketed": lambda words: f"[{', '.join(words)}]",
    "quoted": lambda words: str(words),
    "JSON": lambda words: '["' + '","'.join(words) + '"]',
    "lines": lambda words: "\n" + ",\n".join(words) + "\n",
}


@pytest.mark.parametrize("style", LISTS)
def test_the_token_an_answers_word_starts_in_is_in_its_set(style, builtin, tokenizer, kept):
    """What is read where a word stands includes the word itself, however the list is written."""
    for (wheel, category), own in by_name(kept).items():
        words = builtin.words(wheel, category)
        for answer in (words, words[::-1]):  # another word stands first
            text = f"<think>So.</think>\n<answer>{LISTS[style](answer)}</answer>"
            ids = tokenizer.encode(text, add_special_tokens=False)
            aligned = align(ids, tokenizer)
            assert [word.text.lower() for word in aligned.words] == answer
            assert {ids[word.slow] for word in aligned.words} <= own


def test_an_empty_category_is_told(tokenizer):
    sets = category_sets(Wheels(w1={"glad": ["happy"], "merry": ["happy"], "low": ["sad"]}), tokenizer)
    assert [bool(ids) for ids in sets.token_ids] == [False, False, True]
    assert sets.dropped > 0
    assert str(sets).startswith(f"3 categories, {len(sets.token_ids[2])} first tokens, {sets.dropped} shared tokens")
    assert str(sets).endswith("no tokens left for w1/glad, w1/merry")
    assert "no tokens left" not in str(category_sets(Wheels(w1={"low": ["sad"]}), tokenizer))


def test_every_category_has_tokens_of_its_own_on_qwens_vocabulary(any_wheels, qwen):
    sets = category_sets(any_wheels, qwen)
    assert all(sets.token_ids), str(sets)
