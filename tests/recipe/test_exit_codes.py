"""The exit codes of docs/commands.md: 0, 1, 2, 75 and 130, for every command, in this process."""

import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

from recipe.mer_r1.files import exits
from recipe.mer_r1.run import launch, stop

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"


def main_of(module, *arguments):
    return lambda: import_module(f"recipe.mer_r1.{module}").main([*map(str, arguments)])


def typer_of(module, *arguments):
    return lambda: import_module(module).app([*map(str, arguments)])


def entry(name, *arguments):
    """main_ppo or main_sft, which must not begin to run."""

    def start():
        sys.argv = [f"main_{name}", *arguments]
        launch.run(name, lambda config: pytest.fail("the run has begun"))

    return start


NOWHERE = "nowhere-at-all"
WRONG = {
    "main_ppo, unknown key": entry("ppo", "preset.stpes=3"),
    "main_ppo, unknown key with --cfg": entry("ppo", "preset.stpes=3", "--cfg", "job", "-p", "preset"),
    "main_ppo, wrong type with --cfg": entry("ppo", "preset.steps=abc", "--cfg=job"),
    "main_ppo, unknown choice": entry("ppo", "experiment=nope", "--cfg", "job"),
    "main_ppo, a group of main_sft": entry("ppo", "stage=base"),
    "main_sft, a group of main_ppo": entry("sft", "experiment=mer_r1", "--cfg", "job"),
    "main_sft, an appended group of main_ppo": entry("sft", "+profile=deterministic"),
    "main_eval, unknown command": main_of("main_eval", "rnu"),
    "main_eval report": main_of("main_eval", "report", NOWHERE),
    "main_eval confidence": main_of("main_eval", "confidence", NOWHERE),
    "main_eval cases": main_of("main_eval", "cases", NOWHERE, NOWHERE, "--out", "cases.html"),
    "main_eval sentiment": main_of("main_eval", "sentiment", "--answers", NOWHERE, "--mapper", "lexicon"),
    "main_eval score": main_of("main_eval", "score", "--task", "ew", "--gold", NOWHERE, "--pred", NOWHERE),
    "main_eval run, no model": main_of("main_eval", "run", "--model", NOWHERE, "--data", NOWHERE, "--out", "out"),
    "main_eval demo, no model": main_of("main_eval", "demo", "--model", NOWHERE),
    "replay": typer_of("recipe.mer_r1.replay", NOWHERE, "--all"),
    "explain": main_of("explain.__main__", NOWHERE, "0"),
    "curves": main_of("curves", NOWHERE),
    "live": main_of("live.__main__", NOWHERE),
    "export": main_of("export.__main__", NOWHERE, "--out", "model"),
    "estimate": main_of("estimate.__main__", "preset=nope"),
    "ablation": main_of("ablation.__main__", "list", "--only", "nope"),
    "data_prep check": typer_of("data_prep.cli", "check", "--corpus", "micro", "--root", NOWHERE, "--out", "out"),
    "data_prep build": typer_of("data_prep.cli", "build", "--corpus", "micro", "--root", NOWHERE, "--out", "out"),
}


@pytest.fixture
def ending(monkeypatch, tmp_path):
    """Runs a command in an empty folder; its exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", list(sys.argv))

    def run(command):
        try:
            return command()
        except SystemExit as error:
            return error.code

    return run


@pytest.mark.parametrize("command", WRONG.values(), ids=WRONG)
def test_wrong_input_ends_every_command_with_2_and_a_line(ending, capsys, command):
    assert ending(command) == 2
    assert capsys.readouterr().err.strip()


def ends(error):
    with exits.plain("main_x", "interrupted; go on"):
        raise error


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "main_x: interrupted; go on\n"),
        (SystemExit("shard.parquet: no such shard"), 2, "shard.parquet: no such shard\n"),
        (SystemExit(1), 1, ""),
        (stop.Stopped(stop.EXIT_CODE), 75, ""),
        (SystemExit(), None, ""),
    ],
)
def test_how_a_command_ends_is_its_exit_code(ending, capsys, error, code, line):
    assert ending(lambda: ends(error)) == code
    assert capsys.readouterr().err == line


def test_any_other_error_stays_a_failure_with_its_traceback():
    with pytest.raises(RuntimeError, match="CUDA"):
        ends(RuntimeError("CUDA"))


def test_the_page_has_one_table_with_these_codes():
    table = PAGE.read_text().partition("## Exit codes")[2].partition("\n## ")[0]
    codes = [int(code) for code in re.findall(r"^\| (\d+) \|", table, flags=re.M)]
    assert codes == [exits.OK, exits.FAILED, exits.INPUT, exits.STOPPED, exits.INTERRUPTED]
