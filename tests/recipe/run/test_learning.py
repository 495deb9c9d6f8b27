"""Rules that a run still learns: what holds, from which value, for how long, and what the warning names."""

import math

import pytest

from recipe.mer_r1.run.learning import Watch, warned


def rl(**changes):
    """Metrics of a step that learns, as the demo's; ``a__b`` stands for ``a/b``."""
    data = {
        "reward/format": 0.9,
        "reward/recall": 0.6,
        "reward/precision": 0.6,
        "reward/num_words": 1.5,
        "response_length/clip_ratio": 0.03,
        "advantage/std": 0.8,
        "actor/entropy": 0.33,
        "actor/kl_loss": 0.03,
        "actor/grad_norm": 0.3,
        "actor/loss": 1e-4,
    }
    return data | {name.replace("__", "/"): value for name, value in changes.items()}


def run(*rows):
    return warned(dict(enumerate(rows, 1)))


def rules(*rows):
    return {found.rule for found in run(*rows) if found.now}


NO_REWARD = {"reward__recall": 0.0, "reward__precision": 0.0}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, set()),
        ({"reward__format": 0.0}, {"no_format"}),
        ({"reward__format": 0.01}, set()),
        (NO_REWARD, {"no_reward"}),
        ({"reward__recall": 0.0}, set()),
        (NO_REWARD | {"reward__format": 0.0, "advantage__std": 0.0}, {"no_format"}),  # one cause, one warning
        (NO_REWARD | {"advantage__std": 0.0}, {"no_reward"}),
        ({"advantage__std": 0.0}, {"constant_groups"}),
        ({"advantage__std": 0.001}, set()),
        ({"advantage__zero_groups": 0.51}, {"zero_groups"}),
        ({"advantage__zero_groups": 0.5}, set()),
        (NO_REWARD | {"advantage__zero_groups": 1.0}, {"no_reward"}),
        ({"actor__kl_loss": 1.01}, {"kl"}),
        ({"actor__kl_loss": 0.99}, set()),
        ({"actor__kl_loss": math.nan}, {"not_finite"}),
        ({"actor__grad_norm": None}, {"not_finite"}),  # NaN as some writers have it
        ({"actor__loss": math.inf}, {"not_finite"}),
    ],
)
def test_a_rule_holds_after_three_such_steps(changes, expected):
    assert rules(*[rl(**changes)] * 3) == expected
    assert rules(*[rl(**changes)] * 2) == expected & {"not_finite"}
    assert rules(*[rl(**changes)] * 5, *[rl()] * 3) == set()


def test_the_entropy_must_have_doubled_and_risen_by_a_nat():
    first = [rl(actor__entropy=0.5)] * 3
    assert rules(*first, *[rl(actor__entropy=1.49)] * 3) == set()  # tripled, but not by a nat
    assert rules(*first, *[rl(actor__entropy=1.51)] * 3) == {"entropy"}
    high = [rl(actor__entropy=1.5)] * 3
    assert rules(*high, *[rl(actor__entropy=2.9)] * 3) == set()  # by more than a nat, but not doubled
    assert rules(*high, *[rl(actor__entropy=3.1)] * 3) == {"entropy"}


def test_verls_own_estimators_have_constant_groups_too():
    zero = {"critic/advantages/min": 0.0, "critic/advantages/max": 0.0}
    row = {key: value for key, value in rl().items() if key != "advantage/std"}
    assert rules(*[row | zero] * 3) == {"constant_groups"}
    assert rules(*[row | zero | {"critic/advantages/max": 0.1}] * 3) == set()


def sft(*losses):
    return [{"train/loss": loss, "train/grad_norm": 1.0} for loss in losses]


@pytest.mark.parametrize(("loss", "grown"), [(1.49, False), (1.51, True)])
def test_the_loss_of_sft_is_compared_with_its_lowest_mean(loss, grown):
    assert rules(*sft(*[3.0] * 10, *[1.0] * 10, *[loss] * 10)) == ({"sft_loss"} if grown else set())
    assert rules(*sft(*[1.0] * 10, *[loss] * 9)) == set()


def test_a_small_loss_may_grow_by_half_a_nat():
    assert rules(*sft(*[0.1] * 10, *[0.59] * 10)) == set()
    assert rules(*sft(*[0.1] * 10, *[0.61] * 10)) == {"sft_loss"}
    assert rules(*sft(*[0.1] * 15, math.nan)) == {"not_finite"}


def test_a_warning_names_steps_cause_and_key():
    (found,) = run(rl(), *[rl(reward__format=0.0)] * 4)
    assert (found.first, found.last, found.now) == (4, 5, True)
    assert str(found).startswith("steps 4 to 5: no answer of the last 3 steps has the required form")
    assert "not trained on the form" in found.text
    assert "preset.model_path" in found.text
    (cut,) = run(*[rl(reward__format=0.0, response_length__clip_ratio=0.86)] * 3)
    assert "86% of the responses are cut off at the length limit. Raise preset.max_response_length" in cut.text
    (empty,) = run(*[rl(**NO_REWARD, reward__num_words=0.0)] * 3)
    assert "the answers have no words" in empty.text
    (past,) = run(*[rl(advantage__std=0.0)] * 3, rl())
    assert (past.now, past.steps) == (False, "step 3")


def test_a_warning_is_told_once_until_it_begins_again_also_after_a_resume():
    said, bad = [], rl(reward__format=0.0)
    watch = Watch()
    for step, row in enumerate([bad] * 5 + [rl()] * 3 + [bad] * 4, 1):
        watch.tell(step, row, said.append)
    assert [text.split(":")[1] for text in said] == [" step 3", " step 11"]
    said.clear()
    Watch(dict(enumerate([bad] * 5, 1))).tell(6, bad, said.append)
    assert said == []


def test_lines_of_a_validation_alone_are_no_steps():
    validation = {"val-aux/x/slow/recall/mean@1": 0.5}
    watch = Watch({0: validation})
    assert [watch.add(step, row) for step, row in ((1, rl(reward__format=0.0)), (2, validation))] == [[], []]
    watch.add(3, rl(reward__format=0.0))
    assert [found.rule for found in watch.add(4, rl(reward__format=0.0))] == ["no_format"]
