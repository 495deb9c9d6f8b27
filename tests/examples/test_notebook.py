"""The notebook as a file: its format, no outputs, code that compiles, names, modules and links that exist."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from importlib.util import find_spec

import pytest
from laptop_notebook import NOTEBOOK, read, source, with_sizes

OURS = ("data_prep", "recipe", "verl_ext")
CODE = {cell["id"]: source(cell) for cell in read()["cells"] if cell["cell_type"] == "code"}
TEXT = "\n".join(source(cell) for cell in read()["cells"] if cell["cell_type"] == "markdown")
TREES = {name: ast.parse(code, f"cell {name}") for name, code in CODE.items()}


def test_the_file_is_a_notebook_of_format_4():
    nbformat = pytest.importorskip("nbformat", reason="no nbformat: run make test-extras")
    nbformat.validate(nbformat.read(NOTEBOOK, as_version=4))


def test_no_output_is_committed():
    cells = [cell for cell in read()["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 10
    assert [cell["id"] for cell in cells if cell["outputs"] or cell["execution_count"] is not None] == []
    assert not any("execution" in cell["metadata"] for cell in read()["cells"])  # times that JupyterLab records
    assert read()["metadata"]["kernelspec"]["name"] == "python3"  # the kernel of the environment, on any machine


def test_its_sizes_can_be_replaced(tmp_path):
    notebook = with_sizes(read(), tmp_path, CLIPS=3)
    cell = next(cell for cell in notebook["cells"] if cell["id"] == "parameters")
    found: dict[str, object] = {}
    exec(source(cell), found)
    assert (found["CLIPS"], found["OUT"]) == (3, tmp_path)
    assert {name for name in found if name.isupper()} == {
        *("OUT", "SEED", "CLIPS", "TEST_CLIPS", "SFT_STEPS", "RL_STEPS", "PROMPTS_PER_STEP")
    }


def test_every_name_that_it_imports_of_ours_is_public_and_there():
    named = [
        (node.module, alias.name)
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in OURS
        for alias in node.names
    ]
    assert len(named) > 10
    assert [pair for pair in named if pair[1].startswith("_") or not is_there(*pair)] == []


def is_there(module: str, name: str) -> bool:
    """A name of a module, or a module of a package."""
    return hasattr(import_module(module), name) or find_spec(f"{module}.{name}") is not None


def test_every_command_that_it_runs_or_names_exists():
    ran = {
        node.args[0].value
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "run"
    }
    assert ran == {
        *("data_prep", "verl_ext.models.tiny"),
        *(f"recipe.mer_r1.{name}" for name in ("main_sft", "main_ppo", "main_eval")),
    }
    named = set(re.findall(r"python -m ([\w.]+)", TEXT))
    assert {"recipe.mer_r1.explain", "recipe.mer_r1.replay"} <= named
    assert [name for name in sorted(ran | named) if name != "module" and find_spec(name) is None] == []


def test_its_links_lead_to_files():
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link]
    assert len(links) > 4
    assert [link for link in links if not (NOTEBOOK.parent / link).is_file()] == []
