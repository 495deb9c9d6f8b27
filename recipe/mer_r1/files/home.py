"""`~` in paths of a command line: a shell expands it only at the start of a word, so not in `key=~/model`."""

from __future__ import annotations

import os
import re

_HOME = re.compile(r"""(^|[=\[,\s"'])(~)(?=/|$|[\],\s"'])""")


def expand_home(argument: str) -> str:
    """An argument such as `--out=~/x`, `key=~/x` or `key=[~/x,~/y]` with the home folder for each `~`.

    `~` inside a word and a Hydra deletion (`~key`, `~key=value`) stay as they are, and so does `~` where the machine
    knows no home folder.
    """
    home = os.path.expanduser("~")
    if home == "~" or "~" not in argument:
        return argument
    return _HOME.sub(lambda match: match[1] + home, argument)
