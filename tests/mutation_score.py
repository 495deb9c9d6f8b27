"""The score of a mutation run: mutants that the tests kill, by file, from what mutmut left in ``mutants/``.

Run by ``make mutants``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Exit codes as mutmut's `status_by_exit_code` reads them.
FAILED = {1, 3}
TOO_SLOW = {24, -24, 36, 152, 255}
SURVIVED = 0
NO_TEST = {5, 33}


@dataclass(frozen=True)
class Score:
    """The mutants of one file that were run."""

    file: str
    killed: int
    """A test failed, or the tests took many times as long."""
    survived: int
    untested: int
    """No test reaches the function."""
    total: int
    """With those that ended in another way, for example by a crash of Python."""


def scores(folder: Path) -> Iterator[Score]:
    """Of every file of which a mutant was run, in the order of their names."""
    for path in sorted(folder.rglob("*.py.meta")):
        codes = json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"].values()
        codes = [code for code in codes if code is not None]
        if codes:
            killed = sum(code in FAILED | TOO_SLOW for code in codes)
            untested = sum(code in NO_TEST for code in codes)
            file = str(path.relative_to(folder)).removesuffix(".meta")
            yield Score(file, killed, codes.count(SURVIVED), untested, len(codes))


def table(found: list[Score]) -> str:
    """A line for each file, and the total."""
    sums = [sum(getattr(score, part) for score in found) for part in ("killed", "survived", "untested", "total")]
    rows = [*found, Score("total", *sums)]
    width = max(len(row.file) for row in rows)
    return "\n".join(
        f"{row.file:{width}}  {row.killed:4} / {row.total:4} killed  {row.killed / row.total:6.1%}"
        f"  {row.survived:3} survived  {row.untested:3} without a test"
        for row in rows
    )


def main(folder: Path) -> int:
    found = list(scores(folder))
    if not found:
        print(f"no mutant was run: {folder} has no results (make mutants)", file=sys.stderr)
        return 1
    print(table(found))
    python = Path(sys.executable)
    python = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
    print(f"the mutants that no test kills:  {python} -m mutmut results | grep -v 'not checked'")
    print(f"the change that one of them is:  {python} -m mutmut show NAME")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path("mutants")))
