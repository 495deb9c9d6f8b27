"""One page of running jobs, written anew while they go on.

    python -m recipe.mer_r1.live [NAME=]RUN_DIR … [--out FILE.html] [--every 10] [--once]

Slow and fast recall and precision, confidence margin, shares of the advantage's terms, seconds of each phase, reward,
and the difference of rollout and actor; open FILE in a browser, it reloads itself. A run of main_ppo keeps its own
RUN_DIR/live.html (mer_r1.live=false: not); this command is for several runs on one page, for SFT, and for runs of
before. It ends with the last run.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from recipe.mer_r1.live.writer import EVERY, write


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m recipe.mer_r1.live", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="[NAME=]RUN_DIR")
    parser.add_argument("--out", type=Path, help="default: RUN_DIR/live.html, where there is one run")
    parser.add_argument("--every", type=float, default=EVERY, metavar="SECONDS")
    parser.add_argument("--once", action="store_true", help="write the page as it is now, and end")
    arguments = parser.parse_args()
    names: dict[str, Path] = {}
    for entry in arguments.runs:
        name, _, folder = entry.rpartition("=")
        name = name or Path(folder).resolve().name
        if name in names:
            parser.error(f"two runs are called {name}: tell them apart with NAME=RUN_DIR")
        names[name] = Path(folder)
    out = arguments.out
    if out is None:
        if len(names) > 1:
            parser.error("several runs on one page: say where with --out FILE.html")
        out = next(iter(names.values())) / "live.html"
    if arguments.every <= 0:
        parser.error(f"--every {arguments.every:g}: seconds, more than 0")
    if arguments.out and not out.parent.is_dir():
        parser.error(f"--out {out}: no such folder {out.parent}")
    try:
        going_on = write(names, out, arguments.every)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    print(out, flush=True)
    try:
        while going_on and not arguments.once:
            time.sleep(arguments.every)
            going_on = write(names, out, arguments.every)
    except KeyboardInterrupt:
        print("live: stopped; the runs go on.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
