"""How far two experiments are apart on the same responses, by value."""

import pytest
import torch

from recipe.mer_r1.explain.agreement import agreement


def batch(*advantages, **terms):
    found = terms or {"recall": advantages}
    return {name: torch.tensor(values) for name, values in {**found, "advantage": advantages}.items()}


GROUPS = [["a", "a", "b", "b"], ["a", "a"]]
ONE = [batch(1.0, -1.0, 0.0, 0.0), batch(2.0, -2.0)]


def test_an_experiment_agrees_with_itself():
    found = agreement(ONE, ONE, GROUPS)
    assert found.correlation == pytest.approx(1)
    assert found.opposite == 0
    assert found.std == pytest.approx((10 / 6) ** 0.5)
    # Prompt b has no signal; prompt a of the second batch is a group of its own.
    assert found.without == pytest.approx(1 / 3)


def test_scale_changes_the_spread_and_not_the_correlation():
    found = agreement([{"recall": one["recall"], "advantage": 3 * one["advantage"]} for one in ONE], ONE, GROUPS)
    assert (found.correlation, found.std) == (pytest.approx(1), pytest.approx(3 * (10 / 6) ** 0.5))
    assert found.terms == {"recall": pytest.approx((10 / 6) ** 0.5)}


def test_signs_count_only_where_both_have_one():
    other = [batch(-1.0, -1.0, 0.5, -0.5), batch(2.0, 0.0005)]
    found = agreement(other, ONE, GROUPS)
    assert found.opposite == pytest.approx(1 / 3)  # of three responses with two signs
    assert found.without == 0


def test_a_constant_advantage_has_no_correlation():
    nothing = [batch(0.0, 0.0, 0.0, 0.0), batch(0.0, 0.0)]
    found = agreement(nothing, ONE, GROUPS)
    assert (found.correlation, found.opposite, found.without, found.std) == (None, None, 1, 0)
