"""The notebook from its first cell to its last, in a kernel as Jupyter starts one, at its smallest sizes."""

from __future__ import annotations

import json

import pytest
from laptop_notebook import read, with_sizes

pytestmark = pytest.mark.e2e
SMALLEST = {"CLIPS": 48, "TEST_CLIPS": 6, "SFT_STEPS": 60, "RL_STEPS": 2, "PROMPTS_PER_STEP": 4}
CELL_SECONDS = 600


def printed(cell) -> str:
    """What a cell printed, and its tables as text."""
    parts = (output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)
    return "".join(parts)


def shown(cell) -> str:
    """Its HTML."""
    return "".join(output.get("data", {}).get("text/html", "") for output in cell.outputs)


def test_the_notebook_runs_through(tmp_path, nothing_stays):
    nbformat = pytest.importorskip("nbformat", reason="no nbformat: run make test-extras")
    nbclient = pytest.importorskip("nbclient", reason="no nbclient: run make test-extras")
    pytest.importorskip("ipykernel", reason="no ipykernel: run make test-extras")
    out = tmp_path / "out"
    notebook = nbformat.reads(json.dumps(with_sizes(read(), out, **SMALLEST)), as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=CELL_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()  # raises CellExecutionError, with the traceback, where a cell fails
    nothing_stays()

    cells = {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}
    assert all(cell.execution_count for cell in cells.values())
    assert shown(cells["clip"]).count("<img") == 4
    assert "<audio" in shown(cells["clip"])
    first, *_, wrong = printed(cells["rewards"]).splitlines()[1:]
    assert [row.split()[-4:] for row in (first, wrong)] == [["1.00", "1.00", "1.00", "1.0"], ["0.00"] * 3 + ["1.0"]]
    assert "rd_ad     [recall] + [precision] + 0.1·[format]" in printed(cells["advantage"])
    assert "stored advantages of the step: 0.0000" in printed(cells["group"])
    assert [path.name for path in sorted((out / "mer_r1" / "rollouts").iterdir())] == ["1.jsonl", "2.jsonl"]
    for model in ("sft", "mer_r1"):
        scores = json.loads((out / f"eval_{model}" / "mer_micro" / "scores.json").read_text())
        assert {mode: found["n"] for mode, found in scores["modes"].items()} == {"slow": 6, "fast": 6}
    for name in ("evaluate", "picture"):
        assert any("image/png" in output.get("data", {}) for output in cells[name].outputs)
    # A progress bar that takes the notebook for a terminal writes hundreds of lines.
    assert max(printed(cell).count("\n") for cell in cells.values()) < 60
