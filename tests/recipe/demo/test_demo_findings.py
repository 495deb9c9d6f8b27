"""What the demo says: a difference only where its interval excludes 0."""

import pytest

from recipe.mer_r1.demo import differences
from recipe.mer_r1.demo.findings import findings, improves


def gap(mean, half=0.02):
    return {score: {"mean": mean, "ci95": [mean - half, mean + half]} for score in ("f1", "recall", "precision")}


def summary(gain=0.1, ahead=0.0, fast_recall=0.1, fast_precision=-0.1, after=-0.05, form=0.95):
    modes = ("slow", "fast", "slow_sampled", "fast_sampled")
    fast = {**gap(0.0), "recall": gap(fast_recall)["recall"], "precision": gap(fast_precision)["precision"]}
    pairs = {"baseline - sft": gain, "mer_r1 - sft": gain + ahead, "mer_r1 - baseline": ahead}
    found = {pair: dict.fromkeys(modes, gap(mean)) for pair, mean in pairs.items()}
    found |= {"sft: fast - slow": {"greedy": fast}}
    found |= {f"{row}: fast - slow": {"greedy": gap(after)} for row in ("baseline", "mer_r1")}
    means = {"sft": 0.6, "baseline": 0.6 + gain, "mer_r1": 0.6 + gain + ahead}
    models = {model: {mode: {"f1": f1, "format": form} for mode in modes} for model, f1 in means.items()}
    return {"differences": found, "models": models}


def test_a_gain_has_its_figure():
    assert findings(summary())[0] == (
        "RL with the baseline improves the sampled slow answers to test clips: F1 .600 → .700, +.100 (95 % interval "
        "+.080 to +.120); greedy +.100 (95 % interval +.080 to +.120)."
    )


@pytest.mark.parametrize(("gain", "said"), [(0.1, "improves"), (0.01, "does not change"), (-0.1, "makes worse")])
def test_a_gain_within_its_interval_is_no_gain(gain, said):
    found = summary(gain=gain)
    assert said in findings(found)[0]
    assert improves(found, "baseline") == (gain == 0.1)


@pytest.mark.parametrize(("ahead", "said"), [(0.05, "is ahead of"), (0.019, "cannot be told"), (-0.05, "is behind")])
def test_the_comparison_is_reported_as_it_comes(ahead, said):
    sampled, greedy = findings(summary(ahead=ahead))[2:4]
    assert said in sampled
    assert said in greedy


@pytest.mark.parametrize(
    ("recall", "precision", "said"),
    [
        (0.1, -0.1, "is here:"),
        (0.1, 0.0, "is here in recall alone"),
        (0.0, -0.1, "is here in precision alone"),
        (0.01, 0.1, "is not here"),
    ],
)
def test_the_paradox_needs_both_of_its_sides(recall, precision, said):
    assert f"thinking paradox {said}" in findings(summary(fast_recall=recall, fast_precision=precision))[4]


@pytest.mark.parametrize(("after", "said"), [(0.1, "still better"), (0.0, "cannot be told"), (-0.1, "is worse than")])
def test_what_is_left_of_it_after_rl(after, said):
    assert all(said in sentence for sentence in findings(summary(after=after))[5:7])


def test_a_lost_form_is_said():
    assert "is kept" in findings(summary())[7]
    assert "is NOT kept" in findings(summary(form=0.89))[7]


def test_numbers_have_signs():
    assert differences.number({"mean": -0.0104, "ci95": [-0.03, 0.0096]}) == "−.010 (95 % interval −.030 to +.010)"


@pytest.mark.parametrize(("ci95", "sign"), [([0.001, 0.1], 1), ([-0.1, -0.001], -1), ([0.0, 0.1], 0), ([-0.1, 0.1], 0)])
def test_an_interval_that_touches_0_tells_nothing(ci95, sign):
    assert differences.sign({"mean": 0.0, "ci95": ci95}) == sign
