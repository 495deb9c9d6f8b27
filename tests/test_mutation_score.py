"""The score that `make mutants` prints."""

import json
import tomllib
from pathlib import Path

import mutation_score
from mutation_score import Score, scores

ROOT = Path(__file__).parents[1]


def results(folder, file, codes):
    path = folder / f"{file}.meta"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"exit_code_by_key": {str(index): code for index, code in enumerate(codes)}}))


def test_a_mutant_is_killed_by_a_failed_test_or_by_the_time_limit(tmp_path):
    results(tmp_path, "recipe/b.py", [1, 3, -24, 152, 0, 0, 33, -11, None])
    results(tmp_path, "recipe/a.py", [1])
    results(tmp_path, "recipe/not_run.py", [None, None])
    assert list(scores(tmp_path)) == [Score("recipe/a.py", 1, 0, 0, 1), Score("recipe/b.py", 4, 2, 1, 8)]


def test_it_prints_each_file_and_the_total(tmp_path, capsys):
    results(tmp_path, "a.py", [1, 1, 1, 0])
    results(tmp_path, "b.py", [33, 1])
    assert mutation_score.main(tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["a.py", "3", "/", "4", "killed", "75.0%", "1", "survived", "0", "without", "a", "test"]
    assert lines[2].split()[:6] == ["total", "4", "/", "6", "killed", "66.7%"]


def test_without_a_run_it_says_so(tmp_path, capsys):
    assert mutation_score.main(tmp_path) == 1
    assert "make mutants" in capsys.readouterr().err


def test_the_files_that_are_mutated_are_all_of_the_method():
    """A new file of the room is mutated, too."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutmut"]
    room = {str(path.relative_to(ROOT)) for path in (ROOT / "recipe/mer_r1/method").glob("*.py")}
    assert set(tool["only_mutate"]) == {file for file in room if not file.endswith("__init__.py")}
