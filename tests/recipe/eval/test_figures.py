"""The paper's figures from folders of answers: which numbers stand where, and what is missing."""

import pytest
from confidence_cases import sure
from result_cases import write_answers
from typer.testing import CliRunner

from recipe.mer_r1.eval.figures import models, retained, thinking
from recipe.mer_r1.eval.figures.pictures import markdown, pictures
from recipe.mer_r1.eval.measure import measure
from recipe.mer_r1.eval.report import app
from recipe.mer_r1.eval.tables.entry import Entry
from recipe.mer_r1.method.wheel import EmotionWheels

SLOW, FAST = [-2.0] * 6, [-1.5] * 6


@pytest.fixture
def entry(tmp_path):
    """A folder's results under a model's name; confidences where they are asked for."""

    def make(row, corpus="ov_merd_plus", read=True, **changes):
        folder = write_answers(tmp_path / row / corpus, corpus, model=tmp_path / f"{row}_model", **changes)
        if read:
            sure(sure(folder, "slow", SLOW), "fast", FAST, negatives=-3.0)
        found = measure(folder, EmotionWheels.builtin(), bootstrap=20, seed=0, wheels_named=False)
        return Entry(row, found)

    return make


def titles(picture):
    return [panel.title[:3] for panel in picture.panels]


def values(series):
    return [metric and metric.value for metric in series.points]


def test_figure_3_has_fast_less_slow_and_both_modes(entry):
    one, other = entry("a"), entry("a", "mer2023")
    picture = thinking.figure([one, other])
    assert titles(picture) == ["(a)", "(b)", "(c)", "(d)"]
    assert picture.rows == ["OV-MERD+\n6 clips", "MER23\n6 clips"]
    scores, categories, truth, margin = picture.panels
    assert [series.label for series in scores.series] == ["recall", "precision", "F1"]
    assert values(scores.series[0]) == pytest.approx([100 * e.folder.gaps["R"].value for e in (one, other)])
    slow, fast = categories.series
    assert values(slow)[0] == one.folder.mode("slow").metrics["categories"].value
    assert categories.gaps[0].value == pytest.approx(values(fast)[0] - values(slow)[0])
    assert [values(series) for series in truth.series] == [[-2.0, -2.0], [-1.5, -1.5]]
    assert [values(series) for series in margin.series] == [[2.0, 2.0], [1.5, 1.5]]
    assert [gap.value for gap in margin.gaps] == [-0.5, -0.5]


def test_figure_3_without_confidences_has_two_panels(entry):
    assert titles(thinking.figure([entry("a", read=False)])) == ["(a)", "(b)"]
    mixed = thinking.figure([entry("b", read=False), entry("b", "mer2023")])
    assert values(mixed.panels[2].series[0]) == [None, -2.0]


def test_figure_3_needs_both_modes(entry):
    assert thinking.figure([entry("a", modes=("slow",), read=False)]) is None


def test_figure_5_sets_models_side_by_side(entry):
    found = [entry("a"), entry("b", read=False), entry("b", "mer2023", read=False)]
    picture = models.figure(found)
    assert picture.rows == ["OV-MERD+", "MER23"]
    recall, precision, truth, _ = picture.panels
    assert values(precision.series[1]) == [
        pytest.approx(100 * one.folder.mode("slow").metrics["P"].value) for one in found[1:]
    ]
    assert [series.label for series in recall.series] == ["a", "b"]
    assert values(recall.series[0]) == [pytest.approx(100 * found[0].folder.mode("slow").metrics["R"].value), None]
    assert [values(series) for series in truth.series] == [[-2.0, None], [None, None]]
    assert models.figure(found[:1]) is None


def test_figure_8_has_retained_hits_in_percent(entry):
    one = entry("a")
    (panel,) = retained.figure([one, entry("b", modes=("slow",), read=False)]).panels
    assert [series.label for series in panel.series] == ["a"]
    assert values(panel.series[0]) == [100 * one.folder.retained_hit.value]
    assert panel.series[0].points[0].high == 100 * one.folder.retained_hit.high


def test_sentiment_and_more_models_than_can_be_told_apart(entry):
    assert pictures([entry("a", "mosi", read=False)]) == {}
    one = entry("a")
    many = [Entry(str(number), one.folder) for number in range(8)]
    for figure in (models.figure, retained.figure):
        with pytest.raises(ValueError, match="8 models are too many for one figure; give at most 7"):
            figure(many)


def test_what_is_missing_is_said_once_with_its_command(entry):
    found = [entry("a", read=False), entry("b", read=False, modes=("slow",))]
    text = markdown(pictures(found), found)
    assert text.count(": a on OV-MERD+: the confidences are not computed yet; run `main_eval confidence") == 1
    expected = "Missing in Figures 3 and 8: b on OV-MERD+ has no fast answers; run `main_eval run … --mode slow,fast`"
    assert expected in text
    assert "figure_3_a.png" in text
    assert "Figure 5 compares" not in text
    assert "Figure 5 compares" in markdown(pictures(found[:1]), found[:1])


def test_names_that_a_file_cannot_have_do_not_hide_each_other(entry):
    one = entry("a").folder
    names = pictures([Entry("a/b", one), Entry("a b", one)]).keys()
    assert {"figure_3_a_b", "figure_3_a_b_"} <= names


@pytest.mark.slow
def test_the_report_draws_them_and_takes_old_ones_away(tmp_path, entry):
    entry("a")
    out = tmp_path / "out"
    out.mkdir()
    for old in ("figure_3_b.png", "figure_5.svg"):
        (out / old).touch()
    folder = f"a={tmp_path / 'a' / 'ov_merd_plus'}"
    done = CliRunner().invoke(app, [folder, "--out", str(out), "--bootstrap", "20"])
    assert done.exit_code == 0, done.output
    assert "| -2.00 → -1.50 | 2.00 → 1.50 |" in done.output
    drawn = {path.stem for path in out.glob("*.png")}
    assert drawn == {path.stem for path in out.glob("*.svg")} == {"slow_fast", "figure_3_a", "figure_8"}
    assert "Confidence margin" in (out / "figure_3_a.svg").read_text(encoding="utf-8")
