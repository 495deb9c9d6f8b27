"""Sets of first tokens (Eq. 1), on Qwen's vocabulary and on a small one."""

import pytest
import torch

from recipe.mer_r1.method.alignment import align
from recipe.mer_r1.method.token_sets import category_sets
from recipe.mer_r1.method.word_confidence import count_words
from verl_ext.actor.set_log_probs import TokenSets, set_log_probs

pytestmark = pytest.mark.slow


class Wheels:
    """Wheels of a test's own: categories and their words by wheel."""

    def __init__(self, **wheels):
        self._wheels = wheels
        self.ids = tuple(wheels)

    def all_categories(self, wheel):
        return list(self._wheels[wheel])

    def mapped_words(self, wheel, category):
        return self._wheels[wheel][category]


@pytest.fixture(scope="module")
def dropped(builtin, tokenizer):
    return category_sets(builtin, tokenizer, shared_tokens="drop")


@pytest.fixture(scope="module")
def split(builtin, tokenizer):
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
    assert dropped.shared == kept.shared == total > 0


def test_a_split_token_counts_once_on_its_wheel_by_the_numbers_of_words(builtin, split, kept):
    assert split.token_ids == kept.token_ids
    assert {share for shares in kept.shares for share in shares} == {1.0}
    for wheel in builtin.ids:
        own = [index for index, name in enumerate(split.names) if name[0] == wheel]
        total = dict.fromkeys({token for index in own for token in split.token_ids[index]}, 0.0)
        for index in own:
            for token in split.token_ids[index]:
                assert 0 < split.share(index, token) <= 1
                total[token] += split.share(index, token)
        assert list(total.values()) == pytest.approx([1.0] * len(total))


def test_shares_by_hand(qwen):
    """Three of these words begin with "dis": two of one category and one of the other."""
    wheels = Wheels(w1={"low": ["disappointed", "disillusioned", "sad"], "disgust": ["disgusted"]})
    (dis,) = {qwen.encode(word)[0] for word in ("disappointed", "disillusioned", "disgusted")}
    found = {rule: category_sets(wheels, qwen, rule) for rule in ("split", "drop", "keep")}
    assert {rule: (sets.share(0, dis), sets.share(1, dis)) for rule, sets in found.items()} == {
        "split": (2 / 3, 1 / 3),
        "drop": (0.0, 0.0),
        "keep": (1.0, 1.0),
    }
    assert all(sets.share(0, qwen.encode(" sad")[0]) == 1 for sets in found.values())
    assert all(sets.share(1, qwen.encode(" sad")[0]) == 0 for sets in found.values())


def test_a_rule_that_does_not_exist_is_refused(builtin, qwen):
    with pytest.raises(ValueError, match="shared_tokens='mix': there are split, drop, keep"):
        category_sets(builtin, qwen, "mix")


def test_a_token_shared_across_wheels_stays(qwen):
    wheels = Wheels(w1={"a": ["happy"], "b": ["sad"]}, w2={"c": ["sad", "happy"]})
    sets = category_sets(wheels, qwen)
    a, b, c = map(set, sets.token_ids)
    assert sets.shared == 0
    assert set(map(tuple, sets.shares)) == {
        (1.0,) * len(sets.token_ids[0]),
        (1.0,) * len(sets.token_ids[1]),
        (1.0,) * len(c),
    }
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
    """What is read where a word stands includes the word itself, however the list is written: for every mapped word."""
    mapped = [word for word in builtin.vocabulary if builtin.mask([word])]
    column = {name: index for index, name in enumerate(kept.names)}
    for answer in (mapped, mapped[::-1]):  # another word is first
        ids = tokenizer.encode(f"<think>So.</think>\n<answer>{LISTS[style](answer)}</answer>", add_special_tokens=False)
        words = align(ids, tokenizer).words
        assert [word.text.lower() for word in words] == answer
        for word in words:
            assert word.token == ids[word.slow]
            for wheel in builtin.ids:
                category = builtin.category(word.text, wheel)
                assert category is None or kept.share(column[wheel, category], word.token) == 1, word


def test_an_empty_category_is_told(tokenizer):
    wheels = Wheels(w1={"glad": ["happy"], "merry": ["happy"], "low": ["sad"]})
    sets = category_sets(wheels, tokenizer, shared_tokens="drop")
    assert [bool(ids) for ids in sets.token_ids] == [False, False, True]
    assert sets.shared > 0
    assert str(sets).startswith(f"3 categories, {len(sets.token_ids[2])} first tokens, {sets.shared} shared by two")
    assert str(sets).endswith("no tokens left for w1/glad, w1/merry")
    assert "no tokens left" not in str(category_sets(Wheels(w1={"low": ["sad"]}), tokenizer))


def test_every_category_has_tokens_of_its_own_on_qwens_vocabulary(any_wheels, qwen):
    sets = category_sets(any_wheels, qwen, shared_tokens="drop")
    assert all(sets.token_ids), str(sets)


def test_no_mapped_word_of_qwens_is_less_likely_than_its_token(any_wheels, qwen):
    """conf(c(e)) ≥ log p(e) for every word that is mapped, in every form that an answer can have (Eq. 1).

    Under the rule that leaves most tokens out of the sets; test_confidence.py has the property for any sets.
    """
    sets = category_sets(any_wheels, qwen, "drop")
    mapped = [word for word in any_wheels.vocabulary if word == word.lower().strip() and any_wheels.mask([word])]
    logits = torch.randn(1, len(qwen), generator=torch.Generator().manual_seed(0)) * 4
    masses = set_log_probs(logits, torch.tensor([0]), TokenSets.from_lists(sets.token_ids, sets.shares))
    log_p = logits[0].log_softmax(-1)
    column = {name: index for index, name in enumerate(sets.names)}
    for style in LISTS.values():
        words = align(qwen.encode(f"<think>So.</think><answer>{style(mapped)}</answer>"), qwen).words
        own = log_p[torch.tensor([word.token for word in words])]
        rows = torch.cat([masses[:, :-1].expand(len(words), -1), own[:, None]], dim=1)
        for word in count_words(words, rows, rows, any_wheels, sets, floor=-1e9):
            for wheel in any_wheels.ids:
                if category := any_wheels.category(word.text, wheel):
                    assert word.rows["slow"][column[wheel, category]] >= word.rows["slow"][-1] - 1e-4, (
                        word.text,
                        wheel,
                    )
