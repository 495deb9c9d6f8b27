"""The paper's numbers: means against their entries, and the experiments' files against the tables."""

import pytest
from pydantic import ValidationError

from recipe.mer_r1.eval.paper import PaperTable, load_paper
from recipe.mer_r1.method.experiments import load_experiment, names

PAPER = load_paper()
MEANS = [
    pytest.param(table, row, mean, weights, id=f"{key}-{row.name}-{row.mode or ''}-{mean}")
    for key, table in PAPER.items()
    for row in table.rows
    for mean, weights in table.means.items()
]


@pytest.mark.parametrize(("table", "row", "mean", "weights"), MEANS)
def test_a_mean_is_that_of_its_entries(table, row, mean, weights):
    cells = table.cells(row)
    computed = sum(cells[name] * weight for name, weight in weights.items()) / sum(weights.values())
    # Half a unit of the last digit for the entries, half a unit for the mean.
    consistent = cells[mean] == pytest.approx(computed, abs=10**-table.decimals)
    assert consistent == (mean not in row.inconsistent), f"{cells[mean]} printed, {computed:.4f} computed"


@pytest.mark.parametrize("experiment", names())
def test_the_experiments_files_quote_the_same_numbers(experiment):
    for key, numbers in load_experiment(experiment).paper.items():
        for mode, quoted in numbers.items() if key == "table_3" else [(None, numbers)]:
            assert PAPER[key].find(experiment, mode) == pytest.approx(dict(quoted)), key


def test_every_row_with_an_experiment_has_its_file():
    rows = [row for table in PAPER.values() for row in table.rows]
    assert {row.experiment for row in rows} - {None} <= set(names())


def test_a_row_of_the_wrong_length_is_named():
    table = PAPER["table_1"].model_dump()
    table["rows"][0]["values"] = table["rows"][0]["values"][:-1]
    with pytest.raises(ValidationError, match="Qwen-Audio: 9 values for 10 columns"):
        PaperTable.model_validate(table)


def test_a_row_that_nobody_printed_is_none():
    assert PAPER["table_1"].find("gdpo") is None
    assert PAPER["table_3"].find("mer_r1", "slow_sampled") is None
