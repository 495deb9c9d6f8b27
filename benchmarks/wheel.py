"""Measure the speed of the wheels and scores, and the distance of the embedded wheels from the official wheels.

    python benchmarks/wheel.py [--json] [--out FILE] [--wheels DIR]

The official wheels are not part of this project: DIR, or $MER_R1_SHARED, is a folder with emotion_wheel/mer2025 and
emotion_wheel/mer2026, and with fixtures/ for the distance. Missing folders are left out, with a line on stderr.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, where it is not installed

from recipe.mer_r1.files.provenance import git_state, versions
from recipe.mer_r1.method.answer import parse, slow_response
from recipe.mer_r1.method.metrics import ew_scores
from recipe.mer_r1.method.reward import score_response
from recipe.mer_r1.method.wheel import EmotionWheels

SAMPLES = 2000
REVISIONS = ("mer2025", "mer2026")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    # Where no folder is named, one called `shared` beside the repository will do, as it does for the tests.
    default = Path(os.environ.get("MER_R1_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    parser.add_argument(
        "--wheels",
        type=Path,
        default=default,
        metavar="DIR",
        help="folder with emotion_wheel/ (default: $MER_R1_SHARED)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the JSON to this file")
    arguments = parser.parse_args(argv)
    if arguments.out and not arguments.out.parent.is_dir():
        parser.error(f"--out {arguments.out}: there is no folder {arguments.out.parent}; make it first")
    figures = measure(arguments.wheels)
    text = json.dumps(figures, indent=2)
    print(text if arguments.json else table(figures))
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


def measure(shared: Path) -> dict[str, Any]:
    """`speed` by source of the wheels, `distance` by revision of the official ones that are there, and versions."""
    figures: dict[str, Any] = {"speed": {"builtin": speed(EmotionWheels.builtin)}}
    for revision in REVISIONS:
        folder = shared / "emotion_wheel" / revision
        if not folder.is_dir():
            print(f"{folder} does not exist: not measured (set --wheels or $MER_R1_SHARED)", file=sys.stderr)
            continue
        figures["speed"][revision] = speed(lambda folder=folder: EmotionWheels.load(folder))
        if (shared / "fixtures").is_dir():
            figures.setdefault("distance", {})[revision] = distance(shared, revision)
        else:
            print(
                f"{shared / 'fixtures'} does not exist: the distance from {revision} is not measured", file=sys.stderr
            )
    return figures | {"git": git_state(), "versions": versions("mer-r1", "numpy", "openpyxl")}


def table(figures: dict[str, Any]) -> str:
    """The speeds in columns, one a source; the distances in lines."""
    speeds = figures["speed"]
    lines = [f"{'':28}" + "".join(f"{source:>14}" for source in speeds)]
    for key in next(iter(speeds.values())):
        lines.append(f"{key:28}" + "".join(f"{found[key]:14,.4g}" for found in speeds.values()))
    for revision, found in figures.get("distance", {}).items():
        same = ", ".join(f"{wheel} {100 * row['same_where_both_map']:.0f}" for wheel, row in found["per_wheel"].items())
        lines.append(f"builtin against {revision}: same category, in % of the words that both map: {same}")
        mean, size, largest = (100 * found[f"ew_f_difference_{name}"] for name in ("mean", "mean_abs", "max_abs"))
        lines.append(
            f"  EW F over {found['cases']} cases, in points: mean difference {mean:+.1f}, mean absolute {size:.1f}, "
            f"largest {largest:.1f}"
        )
    return "\n".join(lines)


def speed(load: Callable[[], EmotionWheels]) -> dict[str, float]:
    """Loading in seconds, EW in samples per second (1–6 words, five wheels), one reward in µs.

    CPU time of one core, which neighbours on a shared machine disturb least; only `load_first_wall_s` is time on the
    clock. "first" is the first call, imports included; the others are the best of several.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    wheels = load()
    first_wall, first_load = time.perf_counter() - wall, time.process_time() - cpu
    draw = random.Random(0)
    words = wheels.vocabulary
    gold, pred = ({str(i): draw.choices(words, k=draw.randint(1, 6)) for i in range(SAMPLES)} for _ in range(2))
    cpu = time.process_time()
    ew_scores(gold, pred, wheels)
    first_scores = time.process_time() - cpu
    response = slow_response("The voice is high and quick and the corners of the mouth are up. " * 10, words[100:104])
    labels = words[200:203]
    return {
        "load_first_wall_s": first_wall,
        "load_first_s": first_load,
        "load_again_s": _best(load, 1, 5),
        "ew_samples_per_s_first": SAMPLES / first_scores,
        "ew_samples_per_s": SAMPLES / _best(lambda: ew_scores(gold, pred, wheels), 1, 20),
        "ew_with_1000_resamplings_s": _best(lambda: ew_scores(gold, pred, wheels, bootstrap=1000), 1, 3),
        "reward_us": 1e6 * _best(lambda: score_response(response, labels, wheels), 2000, 10),
        "of_which_parse_us": 1e6 * _best(lambda: parse(response), 2000, 10),
    }


def distance(shared: Path, revision: str) -> dict[str, Any]:
    """The embedded wheels against the official results on the fixtures: words per wheel, EW F over the cases."""
    wheels = EmotionWheels.builtin(rules="mer2025")
    with (shared / "fixtures" / f"wheel_words_{revision}.tsv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    per_wheel = {}
    for wheel in wheels.ids:
        pairs = [(row[f"{wheel}_level1"] or None, wheels.category(row["word"], wheel)) for row in rows]
        both = [expected == found for expected, found in pairs if expected and found]
        per_wheel[wheel] = {
            "same": sum(expected == found for expected, found in pairs) / len(pairs),
            "same_where_both_map": sum(both) / len(both),
            "mapped_by_both": len(both) / len(pairs),
            "mapped_by_official_only": sum(bool(e) and not f for e, f in pairs) / len(pairs),
            "mapped_by_builtin_only": sum(bool(f) and not e for e, f in pairs) / len(pairs),
        }
    cases = json.loads((shared / "fixtures" / f"wheel_cases_{revision}.json").read_text(encoding="utf-8"))
    found = [(ew_scores(case["gt"], case["pred"], wheels)["F"], case["ew_level1"][0]) for case in cases]
    differences = [f - expected for f, expected in found if expected is not None and not math.isnan(f)]
    return {
        "words": len(rows),
        "per_wheel": per_wheel,
        "cases": len(differences),
        "ew_f_difference_mean": statistics.mean(differences),
        "ew_f_difference_mean_abs": statistics.mean(map(abs, differences)),
        "ew_f_difference_max_abs": max(map(abs, differences)),
    }


def _best(call: Callable[[], Any], number: int, repeat: int) -> float:
    """CPU seconds a call, the best of `repeat` rounds of `number` calls."""
    best = math.inf
    for _ in range(repeat):
        start = time.process_time()
        for _ in range(number):
            call()
        best = min(best, (time.process_time() - start) / number)
    return best


if __name__ == "__main__":
    main()
