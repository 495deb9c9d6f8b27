"""When two ways to compute the same log-probs differ too much."""

import pytest
import torch

from verl_ext.actor.compare import Difference

PARTS = ("log_probs", "set_log_probs", "branch_set_log_probs")


def difference(part, one, two, dtype=torch.float32):
    """One part of three is off."""
    same = {name: torch.tensor([[-1.0, -2.0]]) for name in PARTS}
    return Difference.between({**same, PARTS[part]: one}, {**same, PARTS[part]: two}, dtype)


@pytest.mark.parametrize(
    ("dtype", "gap", "small"),
    [
        (torch.float32, 5e-5, True),
        (torch.float32, 2e-4, False),
        (torch.float32, -2e-4, False),
        (torch.bfloat16, 1.9, True),
        (torch.bfloat16, 2.1, False),
        (torch.float16, 2.1, False),
        (torch.float32, float("nan"), False),
        (torch.bfloat16, float("nan"), False),
    ],
)
@pytest.mark.parametrize("part", range(3))
def test_the_largest_difference_is_limited(part, dtype, gap, small):
    """Sets without mass to speak of may differ, and empty ones are equal."""
    two = torch.tensor([[-1.0, -25.0, -torch.inf], *[[-3.0, -20.0, -torch.inf]] * 9])
    off = two + torch.tensor([[0.0, 3.0, 0.0], [gap, 0.0, 0.0], *[[0.0] * 3] * 8])
    assert difference(part, off, two, dtype).is_small is small


@pytest.mark.parametrize(("gap", "small"), [(0.29, True), (-0.31, False)])
@pytest.mark.parametrize("part", range(3))
def test_in_low_precision_the_mean_of_each_part_is_limited(part, gap, small):
    """A part alone may be wrong: the mean over all would be a third of its own."""
    two = torch.full((6, 2), -3.0)
    found = difference(part, two + gap, two, torch.bfloat16)
    assert found.is_small is small
    assert str(found) == f"differ by {abs(gap):.1e} at most and {abs(gap):.1e} on average (bfloat16)"


@pytest.mark.parametrize("wrong", [(-1.0, float("nan")), (-5.0, -40.0), (-40.0, -5.0), (-5.0, -torch.inf)])
@pytest.mark.parametrize("part", range(3))
def test_a_mass_that_only_one_way_has_and_nan_on_either_side_are_differences(part, wrong):
    one, two = torch.tensor([[-1.0, wrong[0]]]), torch.tensor([[-1.0, wrong[1]]])
    assert not difference(part, one, two).is_small


def test_nothing_to_compare_is_no_difference():
    empty = torch.tensor([[-torch.inf]])
    assert Difference.between({"sets": empty}, {"sets": empty}, torch.float32).is_small
