"""Check whether this machine can run the main job with a preset. Each check shows its result and how to fix a problem.

    python -m recipe.mer_r1.doctor [--model DIR] [--wheels DIR] [--preset NAME] [--json]
    python -m recipe.mer_r1.doctor --sources

Exit code 0: the job can run; 1: it cannot. Warnings do not change the exit code.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence

from rich.console import Console

from recipe.mer_r1.doctor import agreement, confidence, inputs, machine, screen, software, sources
from recipe.mer_r1.doctor.outcome import Result, Subject, run
from recipe.mer_r1.files import exits
from recipe.mer_r1.run import launch


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m recipe.mer_r1.doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--model", metavar="DIR", help="check this model, and compare vLLM with transformers on it")
    result.add_argument(
        "--wheels", metavar="DIR", help="official wheels: folder or wheel_mapping.npz (default: built-in)"
    )
    result.add_argument("--preset", default="tiny", metavar="NAME", help="preset in conf/preset/ (default: tiny)")
    result.add_argument(
        "--sources", action="store_true", help="say where corpora, wheels and models come from; check nothing"
    )
    result.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return result


def diagnose(subject: Subject) -> list[Result]:
    """All checks, the preset first: the others ask what it wants, and libraries read its environment at import."""
    first = run(inputs.PRESET, subject, composes=True)
    composes = first.status == "ok"
    if composes:
        launch.prepare_environment(subject.preset.device, subject.model_path)
    device = subject.preset.device if composes else None
    others = [*software.checks(device), *machine.CHECKS, *inputs.CHECKS, *confidence.CHECKS, *agreement.CHECKS]
    return [first, *(run(check, subject, composes) for check in others)]


@exits.plain("doctor", "interrupted")
def main(arguments: Sequence[str]) -> int:
    """Look and tell; returns the exit code."""
    options = parser().parse_args(arguments)
    if options.sources:
        print(sources.as_text())
        return exits.OK
    with contextlib.redirect_stdout(sys.stderr):  # libraries print when they are imported
        results = diagnose(Subject(options.preset, options.model, options.wheels))
    if options.json:
        print(screen.as_json(results, options.preset))
    else:
        screen.show(results, options.preset, Console())
    return 0 if screen.runs(results) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
