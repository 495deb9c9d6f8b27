"""Fixtures of evaluation's tests."""

import pytest
from typer.testing import CliRunner

from recipe.mer_r1.eval.figures import pictures
from recipe.mer_r1.eval.report import app


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures are empty files, because drawing takes longer than all else of a report."""
    monkeypatch.setattr(pictures, "draw", lambda picture, files: [file.touch() for file in files])


@pytest.fixture
def report(tmp_path, undrawn):
    """Run `main_eval report` into ``out``; its output and exit code."""

    def run(*arguments):
        return CliRunner().invoke(app, [*map(str, arguments), "--out", str(tmp_path / "out"), "--bootstrap", "0"])

    return run
