"""Write one page that shows running jobs, and update it while they run.

    python -m recipe.mer_r1.live [NAME=]RUN_DIR … [--out FILE.html] [--every 10] [--once]

The page shows slow and fast recall and precision, the confidence margin, the shares of the advantage's terms, the
seconds of each phase, the reward, and the difference between rollout and actor. Open FILE in a browser; the page
reloads itself. main_ppo writes its own RUN_DIR/live.html (mer_r1.live=false turns this off). This command is for
several runs on one page, for SFT, and for finished runs. It ends when the last run ends, or after Ctrl-C (then the
exit code is 130).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from recipe.mer_r1.files import exits
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.files.named import folders_by_name
from recipe.mer_r1.live.writer import EVERY, write


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page until the runs end; the exit code."""
    parser = argparse.ArgumentParser(
        "python -m recipe.mer_r1.live", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="[NAME=]RUN_DIR", help="run folder, and its name on the page")
    parser.add_argument("--out", type=Path, help="file for the page (default for a single run: RUN_DIR/live.html)")
    parser.add_argument("--every", type=float, default=EVERY, metavar="SECONDS", help="seconds between two updates")
    parser.add_argument("--once", action="store_true", help="write the page once, then exit")
    arguments = parser.parse_args(argv)
    try:
        names = folders_by_name(arguments.runs, "runs", "NAME=RUN_DIR")
    except InputError as error:
        parser.error(str(error))
    out = arguments.out
    if out is None:
        if len(names) > 1:
            parser.error("several runs on one page need --out FILE.html")
        out = next(iter(names.values())) / "live.html"
    if arguments.every <= 0:
        parser.error(f"--every {arguments.every:g}: must be more than 0 seconds")
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
        print("live: stopped; the runs continue.", file=sys.stderr)
        return exits.INTERRUPTED
    return exits.OK


if __name__ == "__main__":
    raise SystemExit(main())
