"""The experiments against verl's own functions, on the same inputs, and by verl's own way of calling them."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from recipe.mer_r1.method.experiments import load_estimators
from recipe.mer_r1.run import launch

pytestmark = pytest.mark.seam
NAN = float("nan")
SIGNALS = ("recall", "precision", "f1", "format")


@pytest.fixture
def registered():
    """A function that registers the experiments for a run with these overrides, and gives the run."""
    from recipe.mer_r1.training import estimator

    def register(*overrides):
        config = launch.compose("replay", list(overrides or ["experiment=baseline"]))
        estimator.register(config)
        return config

    return register


def batch(seed, groups=6, size=4, padded=0):
    """(signals, uids, response_mask): groups interleaved, rewards as a few wheels give them, masks of any length."""
    torch.manual_seed(seed)
    count = groups * size
    signals = {name: torch.randint(0, 6, (count,)) / 5 for name in SIGNALS}
    signals["format"] = signals["format"].round()
    uids = np.array([f"clip{i}" for i in torch.arange(groups).repeat(size)[torch.randperm(count)].tolist()], object)
    mask = (torch.arange(9) < torch.randint(1, 10, (count, 1))).long()
    if padded:  # as verl fills a batch: a uid of its own, one token that counts nowhere, no reward
        uids = np.concatenate([uids, np.array(["pad"] * padded, object)])
        mask = torch.cat([mask, torch.zeros(padded, 9, dtype=torch.long)])
    return signals, uids, mask


def at_last_token(values, mask):
    """A reward a token as verl holds an outcome's: all of it at the last one."""
    rewards = torch.zeros(mask.shape, dtype=values.dtype)
    rewards[torch.arange(len(mask)), (mask.sum(-1) - 1).clamp(min=0)] = values
    return rewards


def through_verl(name, signals, uids, mask):
    """Advantages ``(B, T)`` and the report, by verl's ``compute_advantage``."""
    from verl import DataProto
    from verl.trainer.ppo.ray_trainer import compute_advantage

    from recipe.mer_r1.training import estimator

    data = DataProto.from_dict(
        {"response_mask": mask, "token_level_rewards": torch.zeros(mask.shape)}, non_tensors={"uid": uids}
    )
    with estimator.signals(signals) as report:
        data = compute_advantage(data, adv_estimator=name, config=OmegaConf.create({}))
    assert torch.equal(data.batch["advantages"], data.batch["returns"])
    return data.batch["advantages"], report


def pad(values, count, filler=NAN):
    return torch.cat([values, torch.full((count,), filler)])


@pytest.mark.parametrize("seed", range(5))
def test_baseline_is_verls_grpo(seed, registered):
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

    registered()
    signals, uids, mask = batch(seed)
    found, _ = through_verl("baseline", signals, uids, mask)
    reward = signals["f1"].double() + signals["format"].double()
    wanted, _ = compute_grpo_outcome_advantage(at_last_token(reward, mask), mask, uids)
    torch.testing.assert_close(found.double(), wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("padded", [0, 3])
@pytest.mark.parametrize("seed", range(5))
def test_gdpo_is_verls_gdpo(seed, padded, registered):
    from verl.trainer.ppo.core_algos import compute_gdpo_outcome_advantage

    registered()
    signals, uids, mask = batch(seed, padded=padded)
    found, report = through_verl("gdpo_terms", {n: pad(v, padded) for n, v in signals.items()}, uids, mask)
    # verl reads lengths from the attention mask, where each response has its end
    attention = torch.cat([torch.ones(len(mask), 2), mask], 1)
    attention[:, 2] = 1
    wanted, _ = compute_gdpo_outcome_advantage(
        torch.zeros(mask.shape),
        mask,
        uids,
        config={"gdpo_reward_keys": ["recall", "precision", "format"], "gdpo_reward_weights": [1.0, 1.0, 0.1]},
        non_tensor_batch={name: pad(values, padded, 0.0).numpy() for name, values in signals.items()},
        batch={"prompts": torch.zeros(len(mask), 2), "attention_mask": attention.long()},
    )
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)
    assert (found[len(signals["recall"]) :] == 0).all()
    torch.testing.assert_close(report.result["advantage"], found.sum(-1) / mask.sum(-1).clamp(min=1))


def test_a_group_of_one_is_where_it_differs_from_grpo(registered):
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

    registered()
    mask, uids = torch.ones(1, 1, dtype=torch.long), np.array(["alone"], object)
    found, _ = through_verl("baseline", {"f1": torch.tensor([0.5]), "format": torch.tensor([1.0])}, uids, mask)
    assert found.item() == 0.0
    assert compute_grpo_outcome_advantage(torch.tensor([[1.5]]), mask, uids)[0].item() == pytest.approx(1.5, abs=1e-5)


def test_every_experiment_is_registered_and_runs(registered):
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, get_adv_estimator_fn

    verls = {name: get_adv_estimator_fn(name) for name in ("grpo", "gdpo")}
    registered()
    registered()
    signals, uids, mask = batch(0)
    for name in ("f1_first", "calib_pos", "calib_neg", "calib_pos_word", "calib_neg_word"):
        signals[name] = torch.randn(len(uids))
        signals[name][::3] = NAN
    for name, estimator in load_estimators().items():
        assert name in ADV_ESTIMATOR_REGISTRY
        found, report = through_verl(name, signals, uids, mask)
        assert found.isfinite().all()
        assert (found.abs().sum(-1) > 0).any()
        assert (found[mask == 0] == 0).all()
        assert set(report.result) == {"advantage", *(term.name for term in estimator.terms)}
        for term in estimator.terms:
            assert f"advantage/{term.name}/undefined" in report.metrics
        assert "proposition_1/tau" in report.metrics
    assert all(get_adv_estimator_fn(name) is function for name, function in verls.items())


def test_overrides_reach_the_estimator_of_the_run_alone(registered):
    signals, uids, mask = batch(1)
    registered("experiment=rd_ad")
    plain, _ = through_verl("rd_ad", signals, uids, mask)
    registered("experiment=rd_ad", "experiment.lambda_fmt=0.7")
    weighed, report = through_verl("rd_ad", signals, uids, mask)
    difference = (weighed - plain).sum(-1) / mask.sum(-1)
    torch.testing.assert_close(difference, report.result["format"] * 6 / 7, atol=1e-5, rtol=0)
    # Another experiment's estimator by name: its file's terms.
    registered("experiment=baseline", "experiment.lambda_fmt=0.7", "algorithm.adv_estimator=rd_ad")
    torch.testing.assert_close(through_verl("rd_ad", signals, uids, mask)[0], plain)


def test_the_least_spread_of_the_run_reaches_verl(registered):
    signals, uids, mask = batch(1)
    registered("experiment=rd_ad")
    plain, report = through_verl("rd_ad", signals, uids, mask)
    assert {"advantage/zero_groups", "advantage/cancelled_groups"} <= set(report.metrics)
    registered("experiment=rd_ad", "mer_r1.least_spread=1.5")  # more than any term has
    found, report = through_verl("rd_ad", signals, uids, mask)
    assert plain.abs().sum() > 0
    assert found.abs().sum() == 0
    assert report.metrics["advantage/recall/constant_groups"] == 1.0


def test_padding_has_no_advantage_and_no_place_in_the_metrics(registered):
    registered()
    signals, uids, mask = batch(2)
    found, report = through_verl("rd_ad", signals, uids, mask)
    padded_signals, padded_uids, padded_mask = batch(2, padded=3)
    padded_signals = {name: pad(values, 3) for name, values in padded_signals.items()}
    padded, padded_report = through_verl("rd_ad", padded_signals, padded_uids, padded_mask)
    assert torch.equal(padded[:-3], found)
    assert (padded[-3:] == 0).all()
    assert padded_report.metrics == report.metrics
    assert padded_report.result["advantage"].shape == (len(padded_uids),)


def test_an_estimator_outside_of_the_trainer_says_which_trainer_it_needs(registered):
    from verl.trainer.ppo.core_algos import get_adv_estimator_fn

    registered()
    mask = torch.ones(2, 1)
    with pytest.raises(RuntimeError, match="trainer_mode to one of mer_r1_sync"):
        get_adv_estimator_fn("mer_r1")(
            token_level_rewards=mask, response_mask=mask, index=np.array(["a", "a"]), config=None
        )


def test_nothing_of_a_batch_is_left_after_it(registered):
    from recipe.mer_r1.training import estimator

    registered()
    signals, uids, mask = batch(3)
    with estimator.signals(signals) as report:
        pass
    assert report.result is None
    assert report.metrics == {}
    with pytest.raises(RuntimeError, match="trainer_mode"):
        estimator.estimate(load_estimators()["baseline"], mask, mask, uids)
