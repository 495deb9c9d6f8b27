"""`main_eval report`: what it prints, writes and refuses."""

import csv
import re
from functools import partial

import pytest
from report_cases import map_sentiment
from typer.testing import CliRunner

from recipe.mer_r1.eval.corpora import COLUMNS, SENTIMENT, official_metric
from recipe.mer_r1.eval.report import app
from recipe.mer_r1.eval.results import read_results
from recipe.mer_r1.eval.tables.benchmark import lines
from recipe.mer_r1.eval.tables.entry import Entry


def run(out, *arguments):
    """Run the command; its output and exit code."""
    return CliRunner().invoke(app, [*map(str, arguments), "--out", str(out), "--bootstrap", "20"])


@pytest.fixture
def report(tmp_path, undrawn):
    return partial(run, tmp_path / "out")


def test_table_csv_and_picture_are_written(answers, tmp_path):
    done = run(tmp_path / "out", f"mer_r1={answers('a', 'ov_merd_plus')}", f"mer_r1={answers('b', 'mer2023')}")
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((tmp_path / "out" / "table_1.csv").open()))
    assert [(row["model"], row["thinking"]) for row in rows] == [("mer_r1", "slow"), ("mer_r1", "fast")]
    found = read_results(tmp_path / "b").mode("slow").metrics
    assert float(rows[0]["mer2023"]) == pytest.approx(100 * found["hit"].value)
    assert rows[0]["mean"] == rows[0]["meld"] == ""
    unified = list(csv.DictReader((tmp_path / "out" / "table_3.csv").open()))
    assert float(unified[0]["mer2023"]) == pytest.approx(100 * found["F"].value)
    assert (tmp_path / "out" / "slow_fast.png").read_bytes().startswith(b"\x89PNG")
    assert "fast − slow" in (tmp_path / "out" / "slow_fast.svg").read_text(encoding="utf-8")
    assert "mer_r1 (slow, fast): no mean: MER24, MELD, IEMOCAP, MOSI, MOSEI, SIMS, SIMSv2 missing" in done.output


def test_paper_rows_stand_beside_ours_and_gaps_are_named(report, answers):
    done = report(f"mer_r1={answers('a', 'ov_merd_plus')}", "--paper")
    assert done.exit_code == 0, done.output
    assert "| paper: MER-R1 | slow | 70.68 | 88.60 |" in done.output
    assert "- MER-R1 (mer_r1), slow: missing MER23, MER24, MELD" in done.output
    assert "- Baseline (baseline), slow: no results" in done.output
    assert "embedded wheels are not the paper's wheels" in done.output


def test_a_row_is_named_by_its_run_where_it_has_no_name(report, answers):
    done = report(answers("a", "micro", model="my_run/model"))
    assert "| my_run | slow |" in done.output


def test_means_only_where_all_are_there(answers, report):
    folders = [answers(corpus, corpus) for corpus in COLUMNS]
    for folder in folders:
        if folder.name in SENTIMENT:
            map_sentiment(folder)
    assert report(*(f"x={folder}" for folder in folders)).exit_code == 0
    entries = [Entry("x", read_results(folder)) for folder in folders]
    (slow, _) = lines(entries, unified=True)
    nine = [slow.cells[corpus] for corpus in COLUMNS]
    assert slow.cells["r_mean"] == pytest.approx(sum(nine[:5]) / 5)
    assert slow.cells["mean"] == pytest.approx(sum(nine) / 9)
    (slow, _) = lines(entries[1:], unified=True)
    assert slow.cells["r_mean"] is slow.cells["mean"] is None
    (slow, _) = lines(entries[:-1], unified=True)
    assert slow.cells["r_mean"] is not None
    assert slow.cells["mean"] is None


def test_every_number_of_ours_has_its_interval(report, answers, tmp_path):
    """In the table and the CSV; of a mean, from its corpora's: distances to the ends add up as standard errors do."""
    folders = [answers(corpus, corpus) for corpus in COLUMNS]
    for folder in folders:
        if folder.name in SENTIMENT:
            map_sentiment(folder)
    done = report(*(f"mer_r1={folder}" for folder in folders), "--paper")
    found = {folder.name: read_results(folder).mode("slow").metrics for folder in folders}
    rows = list(csv.DictReader((tmp_path / "out" / "table_1.csv").open()))
    own = {name: metrics[official_metric(name)] for name, metrics in found.items()}
    for name, metric in own.items():
        ends = [float(rows[0][f"{name}_{end}"]) for end in ("low", "high")]
        assert ends == pytest.approx([100 * metric.low, 100 * metric.high])
    mean = sum(metric.value for metric in own.values()) / 9
    below = sum((metric.value - metric.low) ** 2 for metric in own.values()) ** 0.5 / 9
    assert float(rows[0]["mean_low"]) == pytest.approx(100 * (mean - below))
    f = own["ov_merd_plus"]
    cell = f"{100 * f.value:.2f} [{100 * f.low:.2f}, {100 * f.high:.2f}]"
    assert done.output.count(f"| mer_r1 | slow | {cell}") == 4  # Tables 1, 3, 4 and 5
    assert rows[-1]["model"].startswith("paper")
    assert rows[-1]["mean_low"] == ""
    ablation = next(csv.DictReader((tmp_path / "out" / "table_4.csv").open()))
    basic = [own[name] for name in ("mer2023", "mer2024", "meld", "iemocap")]
    above = sum((metric.high - metric.value) ** 2 for metric in basic) ** 0.5 / 4
    assert float(ablation["basic_hit_high"]) == pytest.approx(100 * (sum(m.value for m in basic) / 4 + above))


def test_part_of_a_corpus_counts_for_no_mean(report, answers):
    done = report(f"mer_r1={answers('a', 'ov_merd_plus', clips=4)}", "--paper")
    assert "OV-MERD+: only 4 of 6 clips" in done.output
    assert re.search(r"\| mer_r1 \| slow \|[^\n]* \d+\.\d+\\\* \[\d+\.\d+, \d+\.\d+\] \|", done.output)
    assert "only a part of the clips; not in a mean." in done.output
    assert "no mean: OV-MERD+, MER23" in done.output
    assert "MER-R1 (mer_r1), slow: no results" in done.output


def test_results_alone_are_enough(report, answers, tmp_path):
    folder = answers("a", "micro")
    first = report(f"x={folder}")
    for path in folder.glob("*.jsonl"):
        path.unlink()
    assert report(f"x={folder}").output == first.output


def test_results_alone_cannot_be_scored_on_other_wheels(report, answers, shared):
    folder = answers("a", "micro")
    assert report(folder).exit_code == 0
    for path in folder.glob("*.jsonl"):
        path.unlink()
    done = report(folder, "--wheels", shared / "emotion_wheel" / "mer2025")
    assert (done.exit_code, "only results with the wheels mer-r1-builtin" in done.stderr) == (2, True)


def test_rows_of_one_corpus_stand_together(answers, report):
    folders = [f"{row}={answers(row + corpus, corpus, model=row)}" for row in "xy" for corpus in ("meld", "mer2023")]
    done = report(*folders)
    gaps = [line.split(" | ")[:2] for line in done.output.split("Fast − slow")[1].splitlines()[4:8]]
    assert gaps == [["| x", "MER23"], ["| y", "MER23"], ["| x", "MELD"], ["| y", "MELD"]]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"media": {"fps": 1.0}}, "media: fps 2.0 and 1.0, max_frames 4 and None"),
        ({"clips": 5}, "n: 6 and 5"),
        ({"prompt": "Which emotions?"}, "prompts: "),
        ({"temperature": 0.7}, "temperature: 0.0 and 0.7"),
    ],
)
def test_incomparable_models_are_refused_with_the_reason(report, answers, changes, reason):
    one, other = answers("a", "meld"), answers("b", "meld", model="other", **changes)
    done = report(f"x={one}", f"y={other}")
    assert done.exit_code == 2
    assert f"x on meld and y on meld, slow: {reason}" in done.stderr


def test_a_row_is_of_one_model_and_names_a_corpus_once(report, answers):
    one = answers("a", "meld")
    done = report(f"x={one}", f"x={answers('b', 'iemocap', model='other')}")
    assert done.exit_code == 2
    assert "weights:" in done.stderr
    assert "given twice" in report(f"x={one}", f"x={one}").stderr


def test_bad_input_ends_with_code_2(report, answers, tmp_path):
    assert "no such folder" in (missing := report(tmp_path / "nowhere")).stderr
    assert missing.exit_code == 2
    folder = answers("a", "micro")
    with (folder / "slow.jsonl").open("a") as file:
        file.write('{"index": 6, "na')
    done = report(folder)
    assert (done.exit_code, "slow.jsonl, line 7: cut off" in done.stderr) == (2, True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "results.json").write_text('{"schema_version": 1, "results": []}')
    done = report(tmp_path / "b")
    assert (done.exit_code, "schema version 1, but 4 is needed" in done.stderr) == (2, True)


def test_a_model_of_another_form_stands_beside_the_others_in_table_3(report, answers, tmp_path):
    """VideoAuto-R1 has a fast and a slow row; its prompt differs from the others' by its form alone."""
    one = answers("a", "ov_merd_plus")
    other = answers("b", "ov_merd_plus", model="other", form="answer_think_answer")
    done = report(f"baseline={one}", f"videoauto_r1={other}", "--paper")
    assert done.exit_code == 0, done.output
    found = {
        (line["model"], line["thinking"]): line
        for line in csv.DictReader((tmp_path / "out" / "table_3.csv").open(encoding="utf-8"))
    }
    for mode in ("slow", "fast"):
        ours = found["videoauto_r1", mode]["ov_merd_plus"]
        assert float(ours) == pytest.approx(float(found["baseline", mode]["ov_merd_plus"])) != 0
        assert f"VideoAuto-R1 (videoauto_r1), {mode}: missing MER23" in done.output
    assert float(found["paper: VideoAuto-R1", "fast"]["ov_merd_plus"]) == 69.67


def test_a_row_is_of_one_form(report, answers):
    one, other = answers("a", "meld"), answers("b", "iemocap", form="answer_think_answer")
    assert "form: think_answer and answer_think_answer" in report(f"x={one}", f"x={other}").stderr
