"""examples/notebook/mer_r1_laptop.ipynb for its tests: the cells, and the notebook with other sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "examples" / "notebook" / "mer_r1_laptop.ipynb"


def read() -> dict[str, Any]:
    """The notebook as its file has it."""
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


def source(cell: dict[str, Any]) -> str:
    """The text of a cell."""
    return "".join(cell["source"])


def with_sizes(notebook: dict[str, Any], out: Path, **sizes: int) -> dict[str, Any]:
    """The notebook that writes into ``out``, with other values in its cell of sizes (tag ``parameters``)."""
    cell = next(cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", ()))
    values = {"OUT": f"Path({str(out)!r})", **sizes}
    cell["source"] = source(cell) + "".join(f"\n{name} = {value}" for name, value in values.items())
    return notebook
