"""`main_eval report`: the ablations' means over corpora, and folders of many corpora."""

import pytest
from report_cases import map_sentiment, table
from result_cases import BUILTIN

from recipe.mer_r1.eval.corpora import COLUMNS, SENTIMENT
from recipe.mer_r1.eval.measure import measure
from recipe.mer_r1.eval.results import Metric, read_results, write_results
from recipe.mer_r1.eval.tables.ablation import lines
from recipe.mer_r1.eval.tables.entry import Entry


@pytest.fixture
def nine(answers):
    """A folder's results on each of the nine, every number another one."""
    entries = []
    for place, corpus in enumerate(COLUMNS):
        found = measure(answers(corpus, corpus, modes=["slow"]), BUILTIN, bootstrap=0, seed=0, wheels_named=False)
        values = {key: Metric(value=(10 + place + shift) / 100) for shift, key in ((0, "F"), (40, "hit"), (0, "waf"))}
        result = found.results[0].model_copy(update={"metrics": found.results[0].metrics | values, "notes": ()})
        entries.append(Entry("rd", found.model_copy(update={"results": (result,)})))
    return entries


def test_ablation_means_weigh_every_corpus_alike(nine):
    (line,) = lines(nine)
    assert line.cells == pytest.approx(
        {
            "fine_f1": 10,
            "basic_hit": 52.5,  # 51 … 54
            "basic_f1": 12.5,  # 11 … 14
            "sentiment_waf": 16.5,  # 15 … 18
            "mean_official": (10 + 4 * 52.5 + 4 * 16.5) / 9,
            "mean_f1": (10 + 4 * 12.5 + 4 * 16.5) / 9,
        }
    )
    (line,) = lines(nine[:1] + nine[2:])
    assert [key for key, cell in line.cells.items() if cell is None] == [
        "basic_hit",
        "basic_f1",
        "mean_official",
        "mean_f1",
    ]
    assert line.notes == ("no mean: MER23 missing",)


def test_a_row_stands_in_the_ablation_that_it_is_of(nine, report, tmp_path):
    for entry, corpus in zip(nine, COLUMNS, strict=True):
        for path in (folder := tmp_path / corpus).glob("*.jsonl"):
            path.unlink()
        write_results(folder, entry.folder)
        assert read_results(folder) == entry.folder
    done = report(*(f"rd={tmp_path / corpus}" for corpus in COLUMNS), "--paper")
    assert done.exit_code == 0, done.output
    rows = {number: [row["model"] for row in table(tmp_path, number)] for number in (4, 5)}
    assert rows[4] == ["rd", "paper: Baseline", "paper: Ex1", "paper: Ex2", "paper: Ex3"]
    assert rows[5][0] == "paper: Baseline"
    assert "- Ex1 (rd), slow: complete" in done.output
    assert "- Ex2 (rd_ad), slow: no results" in done.output


def test_ablations_without_a_number_are_left_out(answers, report, tmp_path):
    assert report(f"x={answers('c', 'micro')}", "--paper").exit_code == 0  # its files make way
    done = report(f"x={answers('a', 'micro', modes=['slow'])}", f"y={map_sentiment(answers('b', SENTIMENT[0]))}")
    assert done.exit_code == 0, done.output
    assert "Table 4" not in done.output
    left = {path.name for path in (tmp_path / "out").iterdir()}
    # Slow alone in one, gaps in none: no picture either.
    assert left == {"tables.md", "table_1.csv", "table_3.csv"}


def test_a_folder_of_result_folders_stands_for_all_of_them(answers, report, tmp_path):
    for corpus in ("meld", "mer2023"):
        answers(f"run/{corpus}", corpus)
    (tmp_path / "run" / "notes").mkdir()
    together = report(f"baseline={tmp_path / 'run'}")
    apart = report(*(f"baseline={tmp_path / 'run' / corpus}" for corpus in ("meld", "mer2023")))
    assert together.exit_code == 0
    assert together.output == apart.output
    assert "has no answers of `main_eval run`" in report(tmp_path / "run" / "notes").stderr
