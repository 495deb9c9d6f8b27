"""summary.json, results.md and the picture, from made results."""

import io
import json

import pytest
from demo_cases import STAGES, finished
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from recipe.mer_r1.demo import figure, summary
from recipe.mer_r1.demo.__main__ import main, report
from recipe.mer_r1.eval.compare.command import app
from recipe.mer_r1.run.steps import WINDOW, running_mean, trend

RISING = [0.5 + 0.005 * number for number in range(30)]


@pytest.fixture
def found(tmp_path):
    return summary.build(tmp_path, finished(tmp_path, RISING))


def test_the_summary_has_all_that_the_page_shows(found):
    assert set(found["runs"]) == {"baseline", "mer_r1"}
    for run in found["runs"].values():
        assert run["f1"] == RISING
        assert len(run["recall"]) == len(run["precision"]) == len(run["format"]) == 30
        assert run["vllm_actor_logprob_max_abs_diff"] == pytest.approx(30e-7)
    assert [found["runs"][row]["step_seconds"] for row in ("baseline", "mer_r1")] == [4.0, 5.0]
    assert set(found["models"]) == {"sft", "baseline", "mer_r1"}
    for by_mode in found["models"].values():
        assert set(by_mode) == {"slow", "fast", "slow_sampled", "fast_sampled"}
    assert set(found["seconds"]) == {"setup", "data", "sft", "rl", "rl_startup", "eval", "total"}
    assert isinstance(found["peak_rss_gb"], float)
    assert {"python", "verl", "torch"} <= set(found["versions"])
    json.dumps(found, allow_nan=False)


def test_times_add_up(found):
    seconds = found["seconds"]
    assert seconds["total"] == 10.0 * len(STAGES)
    assert (seconds["data"], seconds["sft"], seconds["rl"], seconds["eval"]) == (10.0, 30.0, 20.0, 30.0)
    assert seconds["rl_startup"] == 60.0


def test_validations_stand_beside_the_steps(found):
    assert found["runs"]["mer_r1"]["validation"]["fast"]["step"] == [0, 30]
    assert found["runs"]["baseline"]["validation"]["slow"]["f1"] == [0.5, 0.7]


def test_the_time_of_setup_is_read_where_it_was_noted(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    assert summary.setup_seconds() is None
    (tmp_path / ".setup_seconds").write_text("83\n")
    assert summary.setup_seconds() == 83.0


def test_differences_are_those_of_main_eval_compare(tmp_path):
    """The right clips of the smaller share are right in the larger one too, so a difference is a share of clips."""
    models = {"baseline": {"slow_sampled": 0.75}, "mer_r1": {"slow_sampled": 0.8, "fast": 0.6}}
    found = summary.build(tmp_path, finished(tmp_path, RISING, models))["differences"]
    gain = found["baseline - sft"]["slow_sampled"]
    assert [gain[score]["difference"] for score in "FRP"] == pytest.approx([0.1] * 3)
    assert (gain["F"]["first"], gain["F"]["second"]) == (pytest.approx(0.75), pytest.approx(0.65))
    half = 1.96 * (0.1 * 0.9 / 40) ** 0.5
    assert [gain["F"]["low"], gain["F"]["high"]] == pytest.approx([0.1 - half, 0.1 + half], abs=0.03)
    assert found["mer_r1 - baseline"]["slow_sampled"]["F"]["difference"] == pytest.approx(0.05)
    assert found["mer_r1 - baseline"]["fast"]["F"]["difference"] == pytest.approx(-0.05)
    assert found["mer_r1: fast - slow"]["greedy"]["F"]["difference"] == pytest.approx(-0.05)
    assert found["mer_r1: fast - slow"]["sampled"]["F"]["difference"] == pytest.approx(-0.15)
    assert found["sft: fast - slow"]["greedy"]["F"]["low"] == found["sft: fast - slow"]["greedy"]["F"]["high"] == 0
    out = tmp_path / "compare"
    sides = [f"{row}={tmp_path / f'eval_{row}'}:slow_sampled" for row in ("baseline", "sft")]
    assert CliRunner().invoke(app, [*sides, "--out", str(out)]).exit_code == 0
    (comparison,) = json.loads((out / "compare.json").read_text())["comparisons"]
    assert comparison["corpora"][0]["scores"] == gain


def test_other_clips_are_not_compared(tmp_path):
    stamps = finished(tmp_path, RISING)
    path = tmp_path / "eval_sft" / "mer_micro" / "slow_sampled.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[4:]))
    with pytest.raises(ValueError, match="n: 40 and 39"):
        summary.build(tmp_path, stamps)


def test_an_evaluation_of_an_earlier_version_is_refused_with_what_to_do(tmp_path):
    stamps = finished(tmp_path, RISING)
    path = tmp_path / "eval_sft" / "mer_micro" / "scores.json"
    path.write_text(path.read_text().replace('"ew_f"', '"old"'))
    with pytest.raises(ValueError, match=r"without EW F. Remove .*eval_sft, then repeat"):
        summary.build(tmp_path, stamps)


@pytest.mark.parametrize(
    ("file", "said"),
    [("scores.json", "without EW F. Remove"), ("slow_sampled.jsonl", "n: 40 and 39"), (None, "No such file")],
)
def test_results_that_cannot_be_used_end_the_command_with_2_and_a_line(file, said, tmp_path, monkeypatch, capsys):
    stamps = finished(tmp_path, RISING)
    path = tmp_path / "eval_sft" / "mer_micro" / (file or "scores.json")
    if file is None:
        path.unlink()
    elif file == "scores.json":
        path.write_text(path.read_text().replace('"ew_f"', '"old"'))
    else:
        path.write_text("".join(path.read_text().splitlines(keepends=True)[4:]))
    monkeypatch.setattr("recipe.mer_r1.demo.__main__.process.adopt_orphans", lambda: None)
    monkeypatch.setattr("recipe.mer_r1.demo.__main__.process.listen_to_signals", lambda: None)
    monkeypatch.setattr("recipe.mer_r1.demo.__main__.Chain.run", lambda *_: stamps)
    with pytest.raises(SystemExit) as ended:
        main(["--out", str(tmp_path)])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "summary.json").exists()


def test_the_page_shows_tables_picture_and_findings(found):
    text = summary.page(found)
    assert "results.png" in text
    assert all(f"- {finding}" in text for finding in found["findings"])
    assert text.count("| SFT |") == text.count("| baseline |") == text.count("| MER-R1 |") == 4
    assert "baseline 4.0 s, MER-R1 5.0 s" in text


def test_sampled_answers_stand_apart_from_greedy_ones(tmp_path):
    found = summary.build(tmp_path, finished(tmp_path, RISING, {"baseline": {"slow_sampled": 0.123}}))
    assert summary.table(found)[3][:2] == ["baseline", "slow"]
    assert summary.table(found)[3][2:4] == ["65.00", "55.0–75.0"]
    assert summary.table(found, sampled=True)[3][2] == "12.30"
    assert summary.table(found, sampled=True)[3][6] == "11.30"  # of each clip


def test_the_tables_fit_a_terminal_of_80_columns(tmp_path):
    console = Console(file=io.StringIO(), width=80)
    report(tmp_path, finished(tmp_path, RISING), console)
    text = console.file.getvalue()
    assert "…" not in text
    assert "Greedy answers to 40 test clips" in text
    assert text.count("55.0–75.0") == 12


def test_a_mode_without_scored_clips_has_dashes(found):
    found["models"]["baseline"]["slow"] = dict.fromkeys(found["models"]["baseline"]["slow"]) | {"n": 0}
    assert summary.table(found)[3].count("–") == 8


def test_the_picture_is_drawn(found, tmp_path):
    path = tmp_path / "results.png"
    figure.draw(found, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 20_000


def test_the_picture_stands_a_single_step_and_missing_scores(found, tmp_path):
    for run in found["runs"].values():
        run["f1"] = run["f1"][:1]
    found["models"]["mer_r1"]["fast"] = dict.fromkeys(found["models"]["mer_r1"]["fast"]) | {"n": 0}
    figure.draw(found, tmp_path / "results.png")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_the_running_mean_stays_between_the_extremes(values):
    means = running_mean(values)
    assert len(means) == len(values)
    assert all(min(values) - 1e-9 <= mean <= max(values) + 1e-9 for mean in means)


def test_the_running_mean_of_a_line_is_the_line_inside():
    assert running_mean([float(i) for i in range(20)], 5)[2:-2] == pytest.approx(range(2, 18))


def test_a_curve_of_few_steps_is_the_steps_and_not_a_flat_mean():
    few = [0.1, 0.9, 0.2, 0.8, 0.3]
    assert trend(few) == few
    many = few * 2
    assert len(many) >= WINDOW
    assert trend(many) == running_mean(many)
