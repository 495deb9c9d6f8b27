"""Encoder outputs in a batch of prompts: each row lands on its own token, whatever the batch looks like."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from verl_ext.rollout.media_runs import scatter_runs

TEXT, VIDEO, AUDIO = 0, 1, 2


def scatter(kinds, embeddings):
    kinds = torch.tensor(kinds)
    return scatter_runs(torch.zeros(len(kinds), 1), embeddings, kinds != TEXT, kinds == VIDEO)[:, 0].tolist()


def outputs(*items):
    return [torch.tensor(item, dtype=torch.float)[:, None] for item in items]


def test_two_prompts_with_interleaved_sound():
    """vLLM 0.24.0's own rule gives up here, and lays all features end to end."""
    found = scatter([0, 1, 1, 2, 1, 2, 0, 0, 1, 2, 1, 0], outputs([1, 2, 3], [10, 20], [4, 5], [30]))
    assert found == [0, 1, 2, 10, 3, 20, 0, 0, 4, 30, 5, 0]


def test_the_sound_may_come_first_in_the_list_and_in_the_prompt():
    assert scatter([2, 1, 1, 2, 1], outputs([10, 20], [1, 2, 3])) == [10, 1, 2, 20, 3]


def test_of_equal_numbers_the_video_comes_first_in_the_list():
    assert scatter([2, 1, 2, 1], outputs([1, 2], [10, 20])) == [10, 1, 20, 2]


def test_a_video_and_a_sound_apart_beside_an_interleaved_clip():
    found = scatter([1, 1, 0, 2, 2, 0, 1, 2], outputs([1, 2], [10, 20], [3], [30]))
    assert found == [1, 2, 0, 10, 20, 0, 3, 30]


def test_a_part_of_a_prompt_that_has_nothing_of_the_sound_yet():
    assert scatter([0, 1, 1], [*outputs([1, 2]), torch.zeros(0, 1)]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("kinds", "items", "message"),
    [
        ([1, 1, 0], ([1],), "a run of 2 media tokens has encoder outputs for 1"),
        ([1, 2, 1], ([1], [2], [3]), r"a run of 2 video and 1 audio tokens has encoder outputs for \[1, 1, 1\]"),
        ([1, 0], ([1], [2]), "1 encoder outputs are left"),
    ],
)
def test_outputs_that_do_not_fit_are_an_error(kinds, items, message):
    with pytest.raises(ValueError, match=message):
        scatter(kinds, outputs(*items))


clips = st.lists(st.lists(st.sampled_from([VIDEO, AUDIO]), min_size=1, max_size=9), min_size=1, max_size=5)


@given(clips)
def test_every_token_gets_the_next_row_of_its_own_medium(prompts):
    """Each row of an output is its number within its clip and medium: 1, 2, … for video, 101, 102, … for sound."""
    kinds, items, expected = [], [], []
    for prompt in prompts:
        seen = {VIDEO: 0, AUDIO: 100}
        for kind in prompt:
            seen[kind] += 1
            expected.append(seen[kind])
        expected.append(0)
        kinds += [*prompt, TEXT]
        items += [range(1, seen[VIDEO] + 1), range(101, seen[AUDIO] + 1)]
    assert scatter(kinds, outputs(*map(list, items))) == expected
