"""What the live page draws, from the metrics of a run."""

import math

import pytest
from live_cases import step_metrics, validation_metrics

from recipe.mer_r1.live import series, svg


def run(count, **changes):
    return {step: step_metrics(step, **changes) for step in range(1, count + 1)}


def test_shares_of_terms_are_of_the_sum_of_their_stds_and_leave_the_whole_advantage_out():
    (step, shares), *_ = series.term_shares(run(1))
    assert step == 1
    assert shares == pytest.approx({"recall": 0.6, "precision": 0.3, "format": 0.1})
    now = series.terms_now(run(3))
    assert [term.name for term in now] == ["recall", "precision", "format"]
    assert (now[0].undefined, now[0].constant) == (0.25, 0.5)


def test_a_batch_whose_terms_are_all_constant_has_no_shares():
    (_, shares), *_ = series.term_shares(run(1, terms={"recall": 0.0, "format": 0.0}))
    assert shares == {"recall": 0.0, "format": 0.0}


def test_a_run_of_one_of_verls_estimators_has_no_terms():
    assert series.term_shares(run(2, terms={})) == []
    assert series.terms_now(run(2, terms={})) == []


def test_phases_with_the_rest_sum_to_the_step_and_validation_is_none_of_them():
    steps = {1: step_metrics(1) | validation_metrics()}
    (_, parts), *_ = series.phases(steps)
    assert parts == pytest.approx({"gen": 6.0, "old_log_prob": 4e-4, "update_actor": 3.0, series.REST: 0.9996})
    assert series.step_seconds(steps) == [50.0]


def test_the_slowest_phase_is_that_of_the_latest_steps():
    steps = {step: step_metrics(step) for step in range(1, 21)}
    for step in range(11, 21):
        steps[step] |= {"timing_s/gen": 1.0, "timing_s/update_actor": 8.0}
    slowest = series.slowest(series.phases(steps))
    assert (slowest.name, slowest.seconds, slowest.step_seconds) == ("update_actor", 8.0, pytest.approx(10.0))
    assert series.slowest([]) is None


def test_the_rest_is_no_phase_and_never_the_slowest():
    steps = {1: step_metrics(1) | {"timing_s/gen": 1.0, "timing_s/update_actor": 2.0}}
    rows = series.phases(steps)
    assert series.phase_means(rows)[series.REST] == pytest.approx(6.9996)
    assert series.slowest(rows).name == "update_actor"
    assert series.slowest([(1, {series.REST: 10.0})]) is None


def test_validation_is_told_apart_by_source_and_mode_and_averaged_over_sources():
    steps = {
        0: validation_metrics(slow=0.4),
        4: validation_metrics(slow=0.8) | validation_metrics("mer2024", slow=0.6, fast=0.1),
    }
    steps[4]["val-aux/mer_micro/slow/category/w1/happy/recall"] = 0.0
    found = series.validation(steps)
    assert found["mer_micro", "slow", "recall"] == [(0, 0.4), (4, 0.8)]
    assert series.over_sources(found, "slow", "recall") == [(0, 0.4), (4, pytest.approx(0.7))]
    assert series.over_sources(found, "fast", "recall")[-1] == (4, pytest.approx(0.4))


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "text"])
def test_what_is_no_finite_number_is_left_out_of_a_curve(value):
    assert series.curve({1: {"a": value}, 2: {"a": 1.0}}, "a") == [(2, 1.0)]


def test_ticks_are_round_and_inside():
    assert svg.Axis(0.13, 0.97, 0, 1).ticks() == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert svg.Axis(0, 1, 0, 1).ticks() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert svg.Axis(1e-6, 1e-4, 0, 1, log=True).ticks() == pytest.approx([1e-6, 1e-5, 1e-4])


def test_an_axis_maps_its_ends_on_its_pixels():
    axis = svg.Axis(10, 20, 200, 0)
    assert [axis(10), axis(15), axis(20)] == [200, 100, 0]
    decades = svg.Axis(1e-6, 1e-4, 200, 0, log=True)
    assert [decades(1e-6), decades(1e-5), decades(0.0)] == pytest.approx([200, 100, 200])


def test_many_points_become_means_of_neighbours_that_end_at_the_last_step():
    points = [(step, float(step)) for step in range(1, 1001)]
    assert svg.binned(points, 250)[0] == (4, 2.5)
    assert svg.binned(points, 250)[-1] == (1000, 998.5)
    assert svg.binned(points, 1000) == points
