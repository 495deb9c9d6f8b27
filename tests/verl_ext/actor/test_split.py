"""How a rank's batch is cut into micro-batches of at most some tokens, padding counted."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from verl_ext.actor.split import split


@st.composite
def batches(draw):
    """(groups, prompts, continuations, limit): groups whose members are anywhere in the batch."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    order = draw(st.permutations(range(sum(sizes))))
    groups, start = [], 0
    for size in sizes:
        groups.append(sorted(order[start : start + size]))
        start += size
    prompts, continuations = [0] * start, [0] * start
    for group in groups:
        prompt = draw(st.integers(1, 30))
        for index in group:
            prompts[index], continuations[index] = prompt, draw(st.integers(1, 30))
    return groups, prompts, continuations, draw(st.integers(1, 200))


def rows_of(part, groups):
    """The rows that `pack` makes of a micro-batch."""
    return [row for group in groups if (row := [index for index in group if index in part])]


def tokens(part, groups, prompts, continuations):
    rows = rows_of(part, groups)
    return len(rows) * max(prompts[row[0]] + sum(continuations[index] for index in row) for row in rows)


# Rows of a group that are apart in its order, but fit into one.
@example(([[0, 1], [2, 3, 4, 5], [6], [7]], [1, 1, 10, 10, 10, 10, 1, 1], [1, 1, 1, 1, 13, 2, 1, 1], 24))
@given(batches())
def test_every_sample_is_once_in_a_micro_batch_of_at_most_the_limit(batch):
    groups, prompts, continuations, limit = batch
    parts = split(*batch)
    assert sorted(index for part in parts for index in part) == list(range(len(prompts)))
    assert all(part == sorted(part) != [] for part in parts)
    sizes = [tokens(part, groups, prompts, continuations) for part in parts]
    for part, size in zip(parts, sizes, strict=True):
        assert size <= limit or len(part) == 1
    assert all(one >= two for one, two in pairwise(sizes))  # the largest first: ranks wait least for each other


@given(batches())
def test_a_group_that_fits_stays_together(batch):
    groups, prompts, continuations, limit = batch
    parts = split(*batch)
    for group in groups:
        holding = [part for part in parts if set(part) & set(group)]
        if prompts[group[0]] + sum(continuations[index] for index in group) <= limit:
            assert len(holding) == 1
        else:
            # Each part but the last of a cut group is full.
            chunks = sorted([index for index in group if index in part] for part in parts if set(part) & set(group))
            for one, two in pairwise(chunks):
                assert prompts[one[0]] + sum(continuations[index] for index in [*one, two[0]]) > limit


@given(batches(), st.data())
def test_any_possible_number_of_micro_batches_can_be_asked_for(batch, data):
    groups, prompts, continuations, limit = batch
    fewest = len(split(*batch))
    count = data.draw(st.integers(fewest, len(prompts)))
    parts = split(*batch, count)
    assert len(parts) == count
    assert sorted(index for part in parts for index in part) == list(range(len(prompts)))
    for part in parts:
        assert tokens(part, groups, prompts, continuations) <= limit or len(part) == 1
    assert split(*batch, count) == parts
    assert split(*batch, len(prompts)) == sorted(
        ([index] for index in range(len(prompts))),
        key=lambda part: (-prompts[part[0]] - continuations[part[0]], part),
    )


@given(batches())
def test_groups_are_not_cut_where_micro_batches_of_complete_groups_are_enough(batch):
    groups, prompts, continuations, _ = batch
    longest = max(prompts[group[0]] + sum(continuations[index] for index in group) for group in groups)
    parts = split(groups, prompts, continuations, longest, len(groups))
    assert sorted(parts) == sorted(groups)


@given(batches())
def test_a_higher_limit_never_needs_more_micro_batches_of_uncut_groups(batch):
    groups, prompts, continuations, limit = batch
    longest = max(prompts[group[0]] + sum(continuations[index] for index in group) for group in groups)
    assert len(split(groups, prompts, continuations, longest + limit)) <= len(
        split(groups, prompts, continuations, longest)
    )


EIGHT = ([[0, 1, 2, 3], [4, 5], [6], [7]], [10, 10, 10, 10, 20, 20, 5, 5], [5, 5, 5, 5, 3, 4, 6, 2])
# Rows of 30, 27, 11 and 7 tokens.


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (4 * 30, [[0, 1, 2, 3, 4, 5, 6, 7]]),
        (4 * 30 - 1, [[0, 1, 2, 3, 4, 5, 6], [7]]),
        (60, [[0, 1, 2, 3, 4, 5], [6, 7]]),  # padding counts: 57 tokens, 60 with it
        (59, [[4, 5, 6], [0, 1, 2, 3], [7]]),
        (30, [[0, 1, 2, 3], [4, 5], [6, 7]]),
        (29, [[4, 5], [0, 1, 2], [6, 7], [3]]),
        (15, [[5], [4], [0], [1], [2], [3], [6], [7]]),
        (1, [[5], [4], [0], [1], [2], [3], [6], [7]]),  # less than a prompt: a micro-batch for every response
    ],
)
def test_examples(limit, expected):
    assert split(*EIGHT, limit) == expected


def test_the_largest_is_halved_by_rows_then_by_samples():
    assert split(*EIGHT, 120, 2) == [[0, 1, 2, 3, 4, 5], [6, 7]]
    assert split(*EIGHT, 120, 3) == [[0, 1, 2, 3], [4, 5], [6, 7]]
    assert split(*EIGHT, 120, 4) == [[0, 1, 2, 3], [4, 5], [6], [7]]
    assert split(*EIGHT, 120, 5) == [[4, 5], [0, 1], [2, 3], [6], [7]]


@pytest.mark.parametrize("limit", [0, -1, None, 2.5, True, "8"])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(ValueError, match=r"1 token or more, a whole number; it is"):
        split([[0]], [1], [1], limit)


@pytest.mark.parametrize("count", [0, 2, 9])
def test_a_count_out_of_reach_is_refused(count):
    with pytest.raises(ValueError, match=rf"8 samples need 3 micro-batches or more, and cannot make {count} that"):
        split(*EIGHT, 30, count)
