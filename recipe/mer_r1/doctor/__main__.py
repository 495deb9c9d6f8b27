"""Check whether this machine can run the main job with a preset. Each check shows its result and how to fix a problem.

    python -m recipe.mer_r1.doctor [--model DIR] [--wheels DIR] [--preset NAME] [--json] [--verbose]
    python -m recipe.mer_r1.doctor --sources

Exit code 0: the job can run; 1: it cannot. Warnings do not change the exit code.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from recipe.mer_r1.doctor import agreement, confidence, inputs, machine, screen, software, sources
from recipe.mer_r1.doctor.outcome import Check, Result, Subject, run
from recipe.mer_r1.files import exits
from recipe.mer_r1.pipeline.progress import Status
from recipe.mer_r1.pipeline.shown import shown
from recipe.mer_r1.run import hub, launch, output


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
    result.add_argument("--verbose", action="store_true", help="show what libraries print, too")
    return result


class Checks:
    """Which check is being made, for the screen."""

    def __init__(self) -> None:
        self.done, self.total, self.name = 0, 0, inputs.PRESET.name

    def status(self) -> Status:
        return Status(self.done, self.total or None, self.name, phase=self.name)

    def run(self, checks: Sequence[Check], subject: Subject, composes: bool) -> list[Result]:
        """The results of all."""
        results = []
        for check in checks:
            self.name = check.name
            results.append(run(check, subject, composes))
            self.done += 1
        return results


def diagnose(subject: Subject, checks: Checks | None = None) -> list[Result]:
    """All checks, the preset first: the others ask what it wants, and libraries read its environment at import."""
    checks = checks or Checks()
    first = checks.run([inputs.PRESET], subject, composes=True)
    composes = first[0].status == "ok"
    if composes:
        launch.prepare_environment(subject.preset.device, subject.model_path)
    device = subject.preset.device if composes else None
    others = [*software.checks(device), *machine.CHECKS, *inputs.CHECKS, *confidence.CHECKS, *agreement.CHECKS]
    checks.total = 1 + len(others)
    return [*first, *checks.run(others, subject, composes)]


@exits.plain("doctor", "interrupted")
def main(arguments: Sequence[str]) -> int:
    """Look and tell; returns the exit code."""
    options = parser().parse_args(arguments)
    if options.sources:
        print(sources.as_text())
        return exits.OK
    named = options.model or ""
    model = hub.local_model(named, "--model") if named.startswith(hub.SCHEME) else options.model
    subject, checks = Subject(options.preset, model, options.wheels), Checks()
    with tempfile.TemporaryDirectory() as folder:  # libraries print when they are imported
        log = Path(folder) / output.LOG
        with (
            contextlib.redirect_stdout(sys.stderr),
            output.to_log(log, "doctor", options.verbose, on_errors=True) as shown_on,
            shown(shown_on, "doctor", "checks", checks.status),
        ):
            results = diagnose(subject, checks)
    if options.json:
        print(screen.as_json(results, options.preset))
    else:
        screen.show(results, options.preset, Console())
    return 0 if screen.runs(results) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
