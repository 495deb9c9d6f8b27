"""OUT/report.json and the quarantine list, written clip by clip and whole by rename."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.check.results import Results
from data_prep.check.verdicts import KINDS, ROW_KINDS
from recipe.mer_r1.files.whole import PART

FILE = "report.json"
_BARS = 12  # of a histogram, about
_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class Bar:
    """Clips with a value of at least `start` and less than `end`."""

    start: float
    end: float
    clips: int


def histogram(results: Results, column: str) -> list[Bar]:
    """Clips by `column` ("seconds" or "tokens") in round steps; empty where no clip has one."""
    most = results.one(f"SELECT max({column}) FROM clip")
    if not most:
        return []
    fewest = results.one(f"SELECT min({column}) FROM clip WHERE {column} > 0")
    step = _round_step((most - fewest or most) / _BARS, whole=column == "tokens")
    query = f"SELECT CAST({column} / ? AS INTEGER) AS bar, count(*) FROM clip WHERE {column} > 0 GROUP BY bar"
    counts = dict(results.rows(query, (float(step),)))
    return [Bar(bar * step, (bar + 1) * step, counts.get(bar, 0)) for bar in range(min(counts), max(counts) + 1)]


def _round_step(least: float, *, whole: bool) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten; a whole number where asked."""
    power = 10.0 ** (len(str(int(least))) - 1) if least >= 1 else 0.1
    step = next((each * power for each in _STEPS if each * power >= least), 10 * power)
    return max(1, int(step)) if whole else step


def quantiles(results: Results, column: str) -> dict[str, float]:
    """Median, 90th and 99th percentile and maximum; {} where no clip has a value."""
    count = results.one(f"SELECT count({column}) FROM clip WHERE {column} > 0")
    if not count:
        return {}
    query = f"SELECT {column} FROM clip WHERE {column} > 0 ORDER BY {column} LIMIT 1 OFFSET ?"
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: results.one(query, (min(count - 1, int(share * count)),)) for name, share in shares.items()}


def counts(results: Results) -> list[tuple[str, str, int]]:
    """(kind, severity, clips), drops first, each in falling number."""
    return list(
        results.rows(
            "SELECT kind, severity, count(DISTINCT number) AS clips FROM verdict GROUP BY kind "
            "ORDER BY severity, clips DESC, kind"
        )
    )


def clips_with(results: Results, severity: str) -> int:
    """Number of clips with a verdict of that severity."""
    return results.one("SELECT count(DISTINCT number) FROM verdict WHERE severity = ?", (severity,))


def write_report(results: Results, path: Path, head: dict[str, Any]) -> None:
    """`head`, then counts and histograms, then every clip with its verdicts."""
    clips, seconds = next(results.rows("SELECT count(*), total(seconds) FROM clip"))
    total = {
        **head,
        "clips_read": clips,
        "clips_dropped": clips_with(results, "drop"),
        "clips_noted": clips_with(results, "note"),
        "hours": round(seconds / 3600, 4),
        "counts": {
            kind: {"severity": severity, "clips": number, "meaning": KINDS.get(kind, ("", ""))[1]}
            for kind, severity, number in counts(results)
        },
        "seconds": _spread(results, "seconds"),
        "prompt_tokens": _spread(results, "tokens"),
    }
    opened = json.dumps(total, indent=1, ensure_ascii=False).removesuffix("\n}")
    lines = (json.dumps(clip, ensure_ascii=False) for clip in _clips(results))
    _write_lines(path, opened + ',\n "clips": [\n', lines, "\n ]\n}\n", between=",\n")


def _spread(results: Results, column: str) -> dict[str, Any]:
    bars = [{"from": bar.start, "to": bar.end, "clips": bar.clips} for bar in histogram(results, column)]
    return {**quantiles(results, column), "histogram": bars}


def _clips(results: Results) -> Iterator[dict[str, Any]]:
    for number, part, group, name, seconds, tokens in results.rows(
        "SELECT number, part, grp, name, seconds, tokens FROM clip ORDER BY number"
    ):
        found = results.rows("SELECT kind, severity, message FROM verdict WHERE number = ? ORDER BY rowid", (number,))
        yield {
            "part": part,
            "group": group,
            "name": name,
            "seconds": round(seconds, 3),
            "tokens": tokens,
            "verdicts": [{"kind": kind, "severity": how, "message": message} for kind, how, message in found],
        }


def write_quarantine(results: Results, path: Path, corpus: str) -> None:
    """The drop list as JSON lines, which `build --quarantine` reads; rows that share a sound clip's name are left out,
    for a line stands for all clips of its group and name."""
    marks = ", ".join("?" * len(ROW_KINDS))
    dropped = results.rows(
        "SELECT grp, name, kind, message FROM verdict JOIN clip USING (number) "
        f"WHERE severity = 'drop' AND number NOT IN (SELECT number FROM verdict WHERE kind IN ({marks})) "
        "ORDER BY number, verdict.rowid",
        ROW_KINDS,
    )
    lines = (
        json.dumps(dict(zip(("corpus", "group", "name", "kind", "message"), (corpus, *row), strict=True)),
                   ensure_ascii=False)
        for row in dropped
    )  # fmt: skip
    _write_lines(path, "", (line + "\n" for line in lines), "", between="")


def _write_lines(path: Path, opened: str, lines: Iterable[str], closed: str, *, between: str) -> None:
    """Write in pieces and rename: the file is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}{PART}")
    with part.open("w", encoding="utf-8", newline="\n") as file:
        file.write(opened)
        for number, line in enumerate(lines):
            file.write(between * bool(number) + line)
        file.write(closed)
    os.replace(part, path)
