"""Fixtures of evaluation's tests."""

import pytest
from typer.testing import CliRunner

from recipe.mer_r1.eval import records
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


@pytest.fixture
def held(monkeypatch):
    """Checks that files of answers are read only while their folder is held; the files that were read."""
    files, read = [], records.read

    def checked(path):
        with pytest.raises(records.InUseError), records.alone(path.parent):
            pass
        files.append(path)
        return read(path)

    monkeypatch.setattr(records, "read", checked)
    return files
