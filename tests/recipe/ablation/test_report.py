"""From records to answers: each verdict, what would decide, what is missing, and the tables by value."""

import pytest
from record_cases import MODES, failed, made, write

from recipe.mer_r1.ablation import picture
from recipe.mer_r1.ablation.__main__ import main
from recipe.mer_r1.ablation.answers import answers
from recipe.mer_r1.ablation.claims import NO, NOT_RUN, UNDECIDED, YES, verdict, what_would_decide
from recipe.mer_r1.ablation.page import page
from recipe.mer_r1.ablation.record import write as record_of
from recipe.mer_r1.ablation.results import Results
from recipe.mer_r1.ablation.table import load_table
from recipe.mer_r1.ablation.tables import difference_table, form_table, other_table, score_table, training_table
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.method.bootstrap import Interval, interval

JITTER = (-0.001, 0.0, 0.001)  # of three seeds


def rows(row, slow, fast=0.8, seeds=3, jitter=JITTER, greedy=None, **options):
    """A row on some seeds. Sampled answers are 0.1 worse than greedy ones; jitter is on sampled slow ones."""
    f1 = {"fast": fast, "fast_sampled": fast - 0.1, "slow": slow if greedy is None else greedy}
    return [
        made(row, seed, f1 | {"slow_sampled": slow - 0.1 + jitter[seed - 1]}, **options) for seed in range(1, seeds + 1)
    ]


def results(tmp_path, *records):
    return Results.load(write(tmp_path, *records), load_table())


def answer(tmp_path, word, *records):
    found = [one for one in answers(results(tmp_path, *records)) if word in one.question]
    assert len(found) == 1
    return found[0]


def test_slow_loses_wins_or_cannot_be_told(tmp_path):
    lost = answer(tmp_path / "a", "after SFT", *rows("sft", 0.75))
    assert lost.verdict == YES
    assert "lower F1 than fast ones: slow − fast −0.050 [−0.0" in lost.text
    assert "3 seeds" in lost.text
    assert answer(tmp_path / "b", "after SFT", *rows("sft", 0.85)).verdict == NO
    unclear = answer(tmp_path / "c", "after SFT", *rows("sft", 0.795, jitter=(-0.01, 0.0, 0.01)))
    assert unclear.verdict == UNDECIDED
    assert "cannot be told apart" in unclear.text
    assert "seeds would decide it" in unclear.text
    assert answer(tmp_path / "d", "after SFT", *rows("baseline", 0.8)).verdict == NOT_RUN


def test_sampled_answers_decide_and_greedy_ones_are_beside(tmp_path):
    lost = answer(tmp_path / "a", "after SFT", *rows("sft", 0.75, greedy=0.9))
    assert lost.verdict == YES
    assert "Sampled slow answers of the SFT models have a lower F1" in lost.text
    assert "greedy +0.100 [" in lost.text
    ahead = [*rows("mer_r1", 0.85, greedy=0.7), *rows("mer_r1_shuffled", 0.8, greedy=0.8)]
    content = answer(tmp_path / "b", "content of Δ", *ahead)
    assert content.verdict == YES
    claims = {one.name: one for one in content.claims}
    assert round(claims["mer_r1 − mer_r1_shuffled"].greedy.value, 6) == -0.1


def test_one_seed_decides_nothing_however_large_the_difference(tmp_path):
    one = answer(tmp_path / "a", "with the baseline", *rows("baseline", 0.9, seeds=1))
    assert one.verdict == UNDECIDED
    assert "+0.099 [+0.099, +0.099], 1 seed, clips alone" in one.text
    assert "one seed cannot decide it, and no other row tells how much seeds differ" in one.text
    with_others = [*rows("baseline", 0.9, seeds=1), *rows("rd", 0.8), *rows("rd_ad", 0.8)]
    assert (
        "no other row tells" in answer(tmp_path / "b", "with the baseline", *with_others).text
    )  # no pair with 2 seeds


def test_slow_against_fast_after_rl(tmp_path):
    records = [*rows("sft", 0.75), *rows("baseline", 0.75), *rows("mer_r1", 0.85)]
    cure = answer(tmp_path, "with the baseline", *records)
    assert cure.verdict == NO
    assert "After baseline, sampled slow answers still have a lower F1 than fast ones" in cure.text
    assert "before RL −0.050" in cure.text
    assert answer(tmp_path, "After MER-R1").verdict == YES


def test_the_order_holds_only_where_every_step_of_it_does(tmp_path):
    ladder = {"baseline": 0.70, "rd": 0.75, "rd_ad": 0.80, "mer_r1": 0.85}
    whole = [one for row, slow in ladder.items() for one in rows(row, slow)]
    assert answer(tmp_path / "a", "Ex3", *whole).verdict == YES
    swapped = [one for row, slow in {**ladder, "rd_ad": 0.9}.items() for one in rows(row, slow)]
    found = answer(tmp_path / "b", "Ex3", *swapped)
    assert found.verdict == NO
    assert "mer_r1 − rd_ad −0.050" in found.claims[0].text
    assert [one.verdict for one in found.claims] == [NO, YES, YES]
    assert round(found.claims[0].greedy.value, 6) == -0.05
    short = [one for row, slow in ladder.items() for one in rows(row, slow, seeds=1 if row == "rd" else 3)]
    assert answer(tmp_path / "c", "Ex3", *short).verdict == UNDECIDED
    half = answer(tmp_path / "d", "Ex3", *rows("baseline", 0.7), *rows("mer_r1", 0.8))
    assert half.verdict == NOT_RUN
    assert [one.text for one in half.claims] == [
        *("mer_r1 − rd_ad: not run", "rd_ad − rd: not run", "rd − baseline: not run")
    ]
    ahead = answer(tmp_path / "d", "ahead of the baseline")
    assert ahead.verdict == YES
    assert "mer_r1 − baseline +0.100 [" in ahead.text


def test_b1_and_b2_behind(tmp_path):
    both = [*rows("mer_r1", 0.85), *rows("b1", 0.8), *rows("b2", 0.8)]
    assert answer(tmp_path / "a", "B1 and B2", *both).verdict == YES
    ahead = [*rows("mer_r1", 0.75), *rows("b1", 0.8), *rows("b2", 0.7)]
    assert answer(tmp_path / "b", "B1 and B2", *ahead).verdict == NO


def test_lambda_and_the_shuffled_control(tmp_path):
    records = [*rows("rd_ad", 0.80), *rows("mer_r1", 0.80), *rows("mer_r1_cali1", 0.70), *rows("mer_r1_shuffled", 0.75)]
    found = answer(tmp_path, "λ_cali", *records)
    assert found.verdict == "it changes F1"
    assert "λ = 1 changes" in found.text
    assert [one.text.partition(" [")[0] for one in found.claims] == [
        "λ = 0.1 (mer_r1) − λ = 0 (rd_ad) +0.000",
        "λ = 0.3 (mer_r1_cali0.3) − λ = 0 (rd_ad): not run",
        "λ = 1 (mer_r1_cali1) − λ = 0 (rd_ad) −0.100",
    ]
    content = answer(tmp_path, "content of Δ")
    assert content.verdict == YES
    assert [one.text.partition(" [")[0] for one in content.claims] == [
        *("mer_r1 − mer_r1_shuffled +0.050", "mer_r1_cali1 − mer_r1_cali1_shuffled: not run")
    ]


@pytest.mark.parametrize(("shuffled", "verdict"), [(0.60, YES), (0.80, NO), (0.70, UNDECIDED)])
def test_the_shuffled_control_at_a_larger_lambda_decides_too(tmp_path, shuffled, verdict):
    records = [*rows("mer_r1_cali1", 0.70), *rows("mer_r1_cali1_shuffled", shuffled)]
    assert answer(tmp_path / "one", "content of Δ", *records).verdict == verdict
    alike = [*rows("mer_r1", 1.4 - shuffled), *rows("mer_r1_shuffled", 0.70)]
    assert answer(tmp_path / "two", "content of Δ", *records, *alike).verdict == verdict
    against = [*rows("mer_r1", shuffled), *rows("mer_r1_shuffled", 0.70)]
    assert answer(tmp_path / "three", "content of Δ", *records, *against).verdict == UNDECIDED


def test_tau_and_r_neg_from_the_curves(tmp_path):
    curves = {
        "proposition_1/log_tau": [0.0, 0.6931, 0.6931, 1.3863, None],
        "proposition_1/follows": [0.8, 0.9, 0.8, 0.9, None],
        "confidence/calib_neg/undefined": [0.6, 0.6, 0.5, 0.5],
        "confidence/calib_pos/undefined": [0.1, 0.1, 0.0, 0.0],
        "advantage/calib_neg/constant_groups": [0.7, 0.7, 0.6, 0.6],
        "advantage/calib_pos/constant_groups": [0.0, 0.0, 0.0, 0.0],
    }
    records = rows("mer_r1", 0.8, curves=curves)
    tau = answer(tmp_path, "τ of Proposition 1", *records)
    assert tau.verdict == YES
    assert "τ over the groups of a step is 2.00 in the median step" in tau.text
    assert "above 1 in 75% of steps" in tau.text
    assert "in 85% [" in tau.text
    r_neg = answer(tmp_path, "R⁻ defined")
    assert r_neg.verdict == NO
    assert "defined for 45% of responses, R⁺ for 95%" in r_neg.text
    assert "in 35% [" in r_neg.text


@pytest.mark.parametrize(("shift", "expected"), [(0.05, YES), (-0.05, NO), (0.0, UNDECIDED)])
def test_a_verdict_is_the_intervals(shift, expected):
    found = interval([[shift + 0.01 * seed] * 20 for seed in (-1, 0, 1)])
    assert verdict(found) == expected
    assert verdict(found, expected=-1) == {YES: NO, NO: YES, UNDECIDED: UNDECIDED}[expected]
    assert verdict(None) == NOT_RUN


def test_what_would_decide_is_said_by_the_spread():
    def said(value, seed_sd, clip_se, seeds=3, typical=None):
        return what_would_decide(Interval(value, value - 1, value + 1, seeds, 400, seed_sd, clip_se), typical)

    assert said(0.02, 0.02, 0.002).startswith("about 7 seeds would decide it")
    assert said(0.02, 0.02, 0.015).startswith(
        "no number of seeds would decide it on these 400 clips: it needs over 865"
    )
    assert said(0.0, 0.02, 0.01) == said(0.0005, 0.02, 0.01) == "a difference this small cannot be decided here"
    assert said(0.02, None, 0.002, seeds=1, typical=0.02).startswith("about 7 seeds")
    assert said(0.001, 0.05, 0.0001) == "over 200 seeds would be needed to decide it"


def test_tables_by_value(tmp_path):
    curves = {"reward/f1": [0.1] * 5 + [0.5] * 5, "confidence/calib_neg/undefined": [0.75], "actor/kl_loss": [0.02]}
    records = [*rows("sft", 0.7), *rows("baseline", 0.75, curves=curves), *rows("mer_r1", 0.8, seeds=1, start="other")]
    found = results(tmp_path, *records)
    header, sft, baseline, mer_r1 = score_table(found, ("slow_sampled", "fast"), paper=True)
    assert header[:4] == ["row", "seeds", "slow F1", "slow R"]
    assert sft[:2] == ["sft", "3"]
    assert sft[-1] == "–"
    assert baseline[:2] + baseline[3:6] + [baseline[-1]] == ["baseline", "3", "0.750", "0.600", "1.40", "66.86"]
    assert baseline[2] == "0.650 ± 0.002"  # t(2) · 0.001 / √3
    assert (mer_r1[2], mer_r1[-1]) == ("0.699 ± 0.000", "70.68")
    differences = difference_table(found, "baseline")
    assert differences[1][:3] == ["sft", "3", "−0.050 [−0.050, −0.050] ✱"]
    assert differences[2][:3] == ["mer_r1 †", "1", "+0.050 [+0.050, +0.050]"]
    remade = [one.model_copy(update={"start_sha256": "new"}) for one in rows("mer_r1", 0.8)]
    assert difference_table(results(tmp_path, *remade), "baseline")[2][0] == "mer_r1 †"
    others = dict(zip(*other_table(found)[:2], strict=True))
    assert (others["truth slow"], others["kept hits"], others["s/step"]) == ("−1.250", "0.900", "3.5")
    trained = dict(zip(*training_table(found)[:2], strict=True))
    assert (trained["F1 first"], trained["F1 last"], trained["R⁻ defined"]) == ("0.100", "0.500", "25%")
    assert trained["τ"] == "–"


def test_the_page_shows_what_is_missing_and_failed(tmp_path):
    table = load_table(changes=["rows.baseline.seeds=[1,2]"])
    records = [*rows("mer_r1", 0.8), failed("baseline", 1, "rl baseline 1: killed by signal 9")]
    noted = made("b2", 1, 0.7, notes=["confidence b2 1: failed with exit status 2."])
    text = page(Results.load(write(tmp_path, *records, noted), table), "x.png", "y.png", "z.png")
    asked = len(table.runs())
    assert f"4 of {asked} runs" in text
    assert f"1 failed, {asked - 5} are\nmissing" in text
    assert "- **baseline-1 failed**: rl baseline 1: killed by signal 9" in text
    assert "baseline-2" in text
    assert "baseline-1," not in text
    assert "- b2-1: confidence b2 1: failed with exit status 2." in text
    assert "another task" in text
    assert "baseline and another row have not run on the same seed" in text
    assert "Rows with 1 seed: b2." in text


def test_the_words_of_well_formed_answers_stand_beside_all_answers(tmp_path):
    found = results(tmp_path, *rows("baseline", 0.8), *rows("mer_r1", 0.85))
    header, baseline, mer_r1 = form_table(found)
    cells = dict(zip(header, mer_r1, strict=True))
    assert (cells["format"], cells["seeds"]) == ("0.980", "3")
    assert cells["F1 of well-formed answers"].startswith("0.770 ±")
    assert cells["F1 of all answers"].startswith("0.750 ±")
    assert cells["difference to baseline"].startswith("+0.050 [")
    assert dict(zip(header, baseline, strict=True))["difference to baseline"] == "–"
    assert "Well-formed answers alone: +0.050 [" in answer(tmp_path, "ahead of the baseline").text


def test_seeds_that_were_made_with_different_settings_are_named(tmp_path):
    def seed(number, **settings):
        found = {"preset": {"lr": 1e-4} | settings, "start": {"seed": number, "corpus": {"seed": 1}}}
        return made("mer_r1", number, 0.8).model_copy(update={"settings": found})

    alike = results(tmp_path / "a", seed(1), seed(2), *rows("baseline", 0.7))
    assert alike.mixed == {}
    mixed = results(tmp_path / "b", seed(1), seed(2), seed(3, lr=1e-5))
    assert mixed.mixed == {"mer_r1": ["preset.lr: 0.0001 there, 1e-05 here"]}
    line = "- **The seeds of mer_r1 were made with different settings**: preset.lr: 0.0001 there, 1e-05 here"
    assert line in page(mixed, "x.png", "y.png", "z.png")


def test_intervals_over_added_seeds_are_wider(tmp_path):
    """Student's t with 3 degrees of freedom: 3.182 at 95 %, 4.857 at 1 − .05/3."""
    changes = ["seeds=[1,2,3]", "rows.baseline.seeds=[1,2,3,4]", "rows.mer_r1.seeds=[1,2,3,4]"]
    records = [made("baseline", seed, 0.7) for seed in range(1, 5)]
    records += [made("mer_r1", seed, 0.7 + 0.01 * seed) for seed in range(1, 5)]
    folder = write(tmp_path, *records)
    half = 0.0129099 / 2  # √(5/3) · 0.01, the seeds' standard deviation, over √4
    for looks, quantile in ((1, 3.182), (3, 4.857)):
        found = Results.load(folder, load_table(changes=[*changes, f"looks={looks}"]))
        wide = found.difference("mer_r1", "baseline", "slow_sampled")
        assert (wide.high - wide.low) / 2 == pytest.approx(quantile * half, rel=0.02)
        text = page(found, "x.png", "y.png", "z.png")
        assert f"it has {100 - 5 / looks:.1f} %: {looks} looks" in text
    three = Results.load(folder, load_table(changes=["seeds=[1,2,3,4]", "looks=3"]))
    assert three.difference("mer_r1", "baseline", "slow_sampled").level == 0.95
    assert "Each interval has 95 %.\n" in page(three, "x.png", "y.png", "z.png")


def test_two_records_of_a_run_are_refused(tmp_path):
    record_of(tmp_path, "copy", made("mer_r1", 1, 0.8))
    with pytest.raises(InputError, match="two files are of mer_r1 on seed 1"):
        results(tmp_path, made("mer_r1", 1, 0.7))


def test_records_of_other_clips_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"baseline-1\.json and mer_r1-1\.json are not of the same test clips"):
        results(tmp_path, made("baseline", 1, 0.7), made("mer_r1", 1, 0.7, clips=30))


def test_the_command_writes_page_and_figure_from_the_records_alone(tmp_path, capsys):
    folder = write(tmp_path / "records", *rows("sft", 0.7, noise=0.1), *rows("baseline", 0.8), failed("b1", 1, "no"))
    out = tmp_path / "pages" / "ablation.md"
    assert main(["report", "--results", str(folder), "--out", str(out)]) == 0
    assert "Does slow thinking lose to fast after SFT? yes" in capsys.readouterr().out
    assert "![F1" in out.read_text()
    assert all((out.parent / f"ablation{name}.png").stat().st_size > 10_000 for name in ("", "_all"))
    assert (out.parent / "ablation_curves.png").stat().st_size > 10_000
    assert main(["report", "--results", str(tmp_path / "none"), "--out", str(out)]) == 2


def test_the_figure_draws_a_point_and_its_interval_for_each_row(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(picture.Axes, "errorbar", lambda self, x, y, **style: drawn.append((x, y, style)))
    monkeypatch.setattr(picture.Axes, "get_legend_handles_labels", lambda self: ([], []))
    found = results(tmp_path, *rows("baseline", 0.7), *rows("mer_r1", 0.75, seeds=1))
    assert picture.main_rows(found) == ["baseline"]
    picture.draw(found, found.rows, tmp_path / "x.png")
    slow = [(round(x, 3), y > 1.5, style["alpha"]) for x, y, style in drawn if style["fmt"] == "o"]
    assert slow == [(0.6, True, 1.0), (0.649, False, 0.45), (0.05, False, 0.45)]
    formed = [(round(x, 3), y > 1.5) for x, y, style in drawn if style["fmt"] == "D"]
    assert formed == [(0.62, True), (0.669, False), (0.05, False)]
    assert len(drawn) == 9
    assert len(MODES) == 4


def test_curves_are_means_over_seeds_and_leave_out_steps_that_one_is_missing(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        picture.Axes, "plot", lambda self, x, y, **style: drawn.append((list(x), list(y), style["label"]))
    )
    monkeypatch.setattr(picture.Axes, "get_legend_handles_labels", lambda self: ([], []))
    curves = [{"reward/f1": [0.2] * 9}, {"reward/f1": [0.4] * 8 + [None]}]
    records = [made("baseline", seed, 0.7, curves=one) for seed, one in enumerate(curves, start=1)]
    picture.draw_curves(results(tmp_path, *records), tmp_path / "x.png")
    ((steps, means, label),) = drawn
    assert (steps, label) == ([*range(1, 9)], "baseline")
    assert means == pytest.approx([0.3] * 8)
