"""What the demo says: a difference only where its interval excludes 0."""

import pytest

from recipe.mer_r1.demo.findings import findings, improves


def gap(mean, half=0.02):
    ends = {"low": mean - half, "high": mean + half}
    return {score: {"first": 0.6 + mean, "second": 0.6, "difference": mean, **ends} for score in "FRP"}


def summary(gain=0.1, ahead=0.0, fast_recall=0.1, fast_precision=-0.1, after=-0.05, form=0.95):
    modes = ("slow", "fast", "slow_sampled", "fast_sampled")
    fast = {**gap(0.0), "R": gap(fast_recall)["R"], "P": gap(fast_precision)["P"]}
    pairs = {"baseline - sft": gain, "mer_r1 - sft": gain + ahead, "mer_r1 - baseline": ahead}
    found = {pair: dict.fromkeys(modes, gap(mean)) for pair, mean in pairs.items()}
    found |= {"sft: fast - slow": {"sampled": fast, "greedy": gap(0.03)}}
    found |= {f"{row}: fast - slow": {"sampled": gap(after), "greedy": gap(0.04)} for row in ("baseline", "mer_r1")}
    models = {model: {mode: {"format": form} for mode in modes} for model in ("sft", "baseline", "mer_r1")}
    formed = {pair: gap(mean / 2)["F"] for pair, mean in pairs.items()}
    return {"differences": found, "models": models, "well_formed": formed}


def test_what_is_left_where_the_form_is_right():
    assert findings(summary(gain=0.1, ahead=0.05))[-1] == (
        "Of well-formed sampled slow answers alone, clip F1 changes by +5.00 points (95 % interval +3.00 to +7.00) "
        "with the baseline, by +7.50 points (95 % interval +5.50 to +9.50) with MER-R1; MER-R1 − baseline +2.50 points "
        "(95 % interval +0.50 to +4.50)."
    )


def test_a_gain_has_its_figure():
    assert findings(summary())[0] == (
        "RL with the baseline improves the sampled slow answers to test clips: EW F 60.00 → 70.00, +10.00 points (95 % "
        "interval +8.00 to +12.00); greedy +10.00 points (95 % interval +8.00 to +12.00)."
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
    found = findings(summary(fast_recall=recall, fast_precision=precision))[4]
    assert f"thinking paradox {said}" in found
    assert found.endswith(
        "; greedy +3.00 points (95 % interval +1.00 to +5.00) and +3.00 points (95 % interval +1.00 to +5.00)."
    )


@pytest.mark.parametrize(("after", "said"), [(0.1, "still better"), (0.0, "cannot be told"), (-0.1, "is worse than")])
def test_what_is_left_of_it_after_rl(after, said):
    sentences = findings(summary(after=after))[5:7]
    assert all(said in sentence for sentence in sentences)
    assert all("greedy +4.00 points" in sentence for sentence in sentences)


def test_a_lost_form_is_said():
    assert "is kept" in findings(summary())[7]
    assert "is NOT kept" in findings(summary(form=0.89))[7]
