"""The end of a failed command's log, without what a reader has no use for."""

from __future__ import annotations

import re
from pathlib import Path

START = "$ python "
"""How the line begins with which every start of a command begins in its log."""
_LOOKED_AT = 400
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# Ray repeats an actor's lines with its name and process before them.
_ACTOR = re.compile(r"^\(\w+(?: pid=\d+)?[^)]*\) ")
_OWN_ERROR = re.compile(r"\b(?:recipe|verl_ext|data_prep)(?:\.\w+)+\.(\w*Error: [^\r\n]+)")
_WARNING = re.compile(r"\w*Warning: ")
_NOISE = re.compile(
    r"^\s*$"
    r"|\bWARNING\b|\bINFO\b|\w*Warning:|\bWarning: |warnings\.warn|^\[transformers\]"
    r"|\d+%\|"  # progress bars
    r"|^\s*[~^]+\s*$"  # markers below a traceback's line
    r"|^\s*\{?'[\w./-]+': "  # verl prints its whole configuration
    r"|it/s\]|s/it\]"
)


def relevant(log: Path, count: int = 20) -> list[str]:
    """The last `count` lines of the last start in a log, without warnings, information, progress bars, repetitions."""
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in _last_start(log).split("\n")[-_LOOKED_AT:]]
    kept: list[str] = []
    warned = False
    for line in (_ACTOR.sub("", line) for line in lines):
        quoted = warned and line.startswith("  ")  # the code that a warning is about
        warned = bool(_WARNING.search(line))
        if not quoted and not _NOISE.search(line) and (not kept or kept[-1] != line):
            kept.append(line)
    return kept[-count:]


def own_errors(log: Path, count: int) -> list[str]:
    """The first `count` different errors of our own in what the last start of a command has logged; no tracebacks."""
    return list(dict.fromkeys(_OWN_ERROR.findall(_last_start(log))))[:count]


def _last_start(log: Path) -> str:
    text = _COLOUR.sub("", log.read_text(errors="replace")) if log.exists() else ""
    return text[max(0, text.rfind(f"\n{START}")) :]
