"""Ages of weights, and the rollout-actor gap for each."""

import pytest
import torch

from recipe.mer_r1.training.staleness import gap_metrics, lags


def nested(*rows):
    return torch.nested.as_nested_tensor([torch.tensor(row) for row in rows], layout=torch.jagged)


def test_a_response_is_as_old_as_its_oldest_token():
    """Step 5 starts from version 4; the second response was begun with version 2 and ended with version 4."""
    tags = [{"min_global_steps": 4, "max_global_steps": 4}, {"min_global_steps": 2, "max_global_steps": 4}]
    assert lags(tags, 5) == [0, 2]


def test_gaps_are_kept_apart_by_lag_and_only_sampled_tokens_count():
    rollout = nested([-1.0, -2.0], [-1.0, -1.0, -9.0], [-3.0])
    actor = nested([-1.0, -2.5], [-2.0, -4.0, -1.0], [-3.25])
    mask = nested([1, 1], [1, 1, 0], [1])
    metrics = gap_metrics(rollout, actor, mask, [0, 2, 0])
    assert metrics == {
        "rollout_actor_log_prob_diff/max": 3.0,
        "rollout_actor_log_prob_diff/mean": pytest.approx((0 + 0.5 + 1 + 3 + 0.25) / 5),
        "rollout_actor_log_prob_diff/lag_0/max": 0.5,
        "rollout_actor_log_prob_diff/lag_0/mean": pytest.approx(0.25),
        "rollout_actor_log_prob_diff/lag_2/max": 3.0,
        "rollout_actor_log_prob_diff/lag_2/mean": 2.0,
    }


def test_a_lag_whose_responses_were_all_added_to_fill_a_mini_batch_has_no_gap():
    metrics = gap_metrics(nested([-1.0], [-2.0]), nested([-1.5], [-9.0]), nested([1], [0]), [0, 3])
    assert metrics["rollout_actor_log_prob_diff/lag_0/max"] == 0.5
    assert not any("lag_3" in name for name in metrics)


def test_without_lags_there_is_one_gap():
    metrics = gap_metrics(nested([-1.0]), nested([-1.5]), nested([1]), None)
    assert set(metrics) == {"rollout_actor_log_prob_diff/max", "rollout_actor_log_prob_diff/mean"}
