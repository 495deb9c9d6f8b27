"""Rows that hold a prompt once and all its continuations: who shares, what sees what, where logits are; by hand."""

import pytest
import torch

from verl_ext.actor.shared_prompt import Sample, find_groups, pack

P1, P2 = [10, 11, 12], [20, 21]


def sample(prompt, response, branch=None, channels=None, start=0, **rest):
    ids = torch.tensor([*prompt, *response])
    positions = torch.arange(start, start + len(ids))
    if channels:
        positions = positions + 100 * torch.arange(channels)[:, None]  # each channel on its own
    return Sample(ids, positions, len(prompt), None if branch is None else torch.tensor(branch), **rest)


def three(channels=None):
    """Two of one prompt around one of another."""
    return [
        sample(P1, [1, 2], [3, 4, 5], channels),
        sample(P2, [6], [7], channels, start=50),
        sample(P1, [8], [9], channels),
    ]


def packed(samples, **arguments):
    return pack(samples, find_groups(samples), **arguments)


def test_a_row_is_the_prompt_then_its_responses_then_its_branches():
    found = packed(three(), padding=99)
    assert found.input_ids.tolist() == [
        [10, 11, 12, 1, 2, 8, 3, 4, 5, 9],
        [20, 21, 6, 7, 99, 99, 99, 99, 99, 99],
    ]
    assert found.tokens == 14
    assert found.shares


def test_every_continuation_has_the_positions_that_follow_the_prompt():
    found = packed(three(channels=4)).position_ids
    assert found.shape == (4, 2, 10)
    for channel in range(4):
        first, second = (found[channel] - 100 * channel).tolist()
        assert first == [0, 1, 2, 3, 4, 3, 3, 4, 5, 3]
        assert second[:4] == [50, 51, 52, 52]
    one_channel = packed(three()).position_ids
    assert one_channel.shape == (2, 10)
    assert one_channel[0].tolist() == [0, 1, 2, 3, 4, 3, 3, 4, 5, 3]


def test_positions_that_jump_at_the_end_of_the_prompt_are_kept():
    """M-RoPE: text after a picture goes on behind its largest coordinate."""
    positions = torch.tensor([[0, 1, 2, 3, 4], [0, 5, 5, 6, 7]])
    one = Sample(torch.tensor([1, 2, 3, 4, 5]), positions, 3, torch.tensor([6, 7]))
    assert pack([one], [[0]]).position_ids[:, 0].tolist() == [[0, 1, 2, 3, 4, 3, 4], [0, 5, 5, 6, 7, 6, 7]]


def test_a_continuation_sees_its_prompt_and_itself_alone():
    mask = packed(three()).attention_mask
    assert mask.shape == (2, 1, 10, 10)
    assert mask.dtype == torch.bool
    seen = [["".join(str(int(key)) for key in query) for query in row] for row in mask[:, 0]]
    assert seen[0] == [
        "1000000000",
        "1100000000",
        "1110000000",
        "1111000000",  # response 1
        "1111100000",
        "1110010000",  # response 2
        "1110001000",  # branch 1
        "1110001100",
        "1110001110",
        "1110000001",  # branch 2
    ]
    assert seen[1][:4] == ["1000000000", "1100000000", "1110000000", "1101000000"]
    assert mask.any(-1).all(), "a row that sees nothing is NaN"


def test_logits_of_a_first_token_are_the_prompts_last():
    found = packed(three())
    assert found.before_response(0, torch.tensor([0, 1, 0])).tolist() == [2, 3, 2]
    assert found.before_branch(0, torch.tensor([2, 0, 1])).tolist() == [7, 2, 6]
    assert found.before_response(1, torch.tensor([0])).tolist() == [11]
    assert found.before_branch(1, torch.tensor([0])).tolist() == [11]
    assert found.before_response(2, torch.tensor([0])).tolist() == [2]
    assert found.before_branch(2, torch.tensor([0])).tolist() == [2]


def test_without_anything_to_share_rows_are_plain():
    found = packed([sample(P1, [1, 2]), sample(P2, [3])])
    assert found.input_ids.tolist() == [[10, 11, 12, 1, 2], [20, 21, 3, 0, 0]]
    assert found.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert not found.shares
    assert found.before_response(1, torch.arange(1)).tolist() == [6]
    with pytest.raises(ValueError, match="sample 1 has no branch"):
        found.before_branch(1, torch.arange(1))


def test_some_have_branches_and_some_have_not():
    found = packed([sample(P1, [1]), sample(P1, [2], [3, 4])])
    assert found.input_ids.tolist() == [[10, 11, 12, 1, 2, 3, 4]]
    assert found.before_branch(1, torch.tensor([1])).tolist() == [5]


def test_groups_of_unequal_size_in_the_order_of_their_first():
    samples = [sample(P1, [1]), sample(P2, [2]), sample(P1, [3]), sample([5], [4]), sample(P1, [5]), sample(P2, [6])]
    assert find_groups(samples) == [[0, 2, 4], [1, 5], [3]]


def clip(value, **rest):
    return {"pixel_values_videos": torch.full((2, 3), value), "input_features": None, **rest}


@pytest.mark.parametrize(
    "other",
    [
        {"uid": "b"},
        {"media": clip(2.0)},
        {"media": clip(1.0, video_grid_thw=torch.ones(1, 3))},
        {"media": {"pixel_values_videos": torch.ones(3, 3)}},
        {"media": {}},
        {"media": None},
        {"start": 1},
    ],
)
def test_what_keeps_samples_apart(other):
    one, two = ({"uid": "a", "media": clip(1.0)} | changes for changes in ({}, other))
    assert find_groups([sample(P1, [1], **one), sample(P1, [2], **two)]) == [[0], [1]]


@pytest.mark.parametrize("other", [{}, {"media": {"pixel_values_videos": torch.ones(2, 3)}}])
def test_copies_of_the_media_are_the_same_media(other):
    one, two = ({"uid": "a", "media": clip(1.0)} | changes for changes in ({}, other))
    assert find_groups([sample(P1, [1], **one), sample(P1, [2], **two)]) == [[0, 1]]


def test_a_response_with_media_of_its_own_stays_alone():
    samples = [sample(P1, [1]), sample(P1, [7, 1]), sample(P1, [2]), sample(P1, [1, 7])]
    assert find_groups(samples, media_tokens=[7, 8]) == [[0, 2], [1], [3]]


def test_a_prompt_that_is_the_start_of_another_is_another():
    assert find_groups([sample(P1, [1, 2]), sample([*P1, 1], [2])]) == [[0], [1]]
