"""The paper's Tables 1–5 as typed data: paper.yaml, in percent as printed (arXiv 2606.27652)."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, model_validator


class PaperRow(BaseModel):
    """A row as printed.

    Attributes:
        experiment: file of conf/experiment/ that trains this row; None for models that others trained.
        mode: slow or fast where the table has both.
        inconsistent: columns whose printed mean is not that of the printed entries.
        values: one a column, in percent; None where nothing is printed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    experiment: str | None = None
    mode: Literal["slow", "fast"] | None = None
    inconsistent: tuple[str, ...] = ()
    values: tuple[float | None, ...]


class PaperTable(BaseModel):
    """A table as printed.

    Attributes:
        decimals: digits behind the point.
        metrics: of each column: F1, HIT, WAF, CoT, recognition, reasoning, or mean.
        means: column → weights of the columns whose mean it is. Table 4's columns are means over one, four and four
            corpora, so they weigh 1, 4 and 4.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    unit: Literal["percent"]
    decimals: int
    columns: tuple[str, ...]
    metrics: tuple[str, ...]
    means: dict[str, dict[str, int]]
    rows: tuple[PaperRow, ...]

    @model_validator(mode="after")
    def _one_value_a_column(self) -> PaperTable:
        if len(self.metrics) != len(self.columns):
            raise ValueError(f"{self.title}: {len(self.metrics)} metrics for {len(self.columns)} columns")
        for row in self.rows:
            if len(row.values) != len(self.columns):
                raise ValueError(f"{self.title}, {row.name}: {len(row.values)} values for {len(self.columns)} columns")
        return self

    def cells(self, row: PaperRow) -> dict[str, float | None]:
        """Column → number of a row, in percent."""
        return dict(zip(self.columns, row.values, strict=True))

    def find(self, experiment: str, mode: str | None = None) -> dict[str, float | None] | None:
        """The row that an experiment trains, as `cells` gives it; None where the table has none."""
        for row in self.rows:
            if row.experiment == experiment and row.mode in (None, mode):
                return self.cells(row)
        return None


@cache
def load_paper() -> dict[str, PaperTable]:
    """All tables: `table_1` … `table_5`."""
    text = (resources.files("recipe.mer_r1.eval") / "paper.yaml").read_text(encoding="utf-8")
    return {name: PaperTable.model_validate(table) for name, table in yaml.safe_load(text).items()}
