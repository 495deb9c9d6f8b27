"""How fast the wheels and scores are, and how far the embedded wheels are from the official ones.

`python benchmarks/wheel.py [--json OUT] [--shared DIR]`. Without the official files (DIR/emotion_wheel, default
../shared or $MER_R1_SHARED) only the embedded wheels are timed and the distance is left out.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recipe.mer_r1.answer import parse, slow_response
from recipe.mer_r1.eval.provenance import git_state, versions
from recipe.mer_r1.metrics import ew_scores
from recipe.mer_r1.reward import score_response
from recipe.mer_r1.wheel import EmotionWheels

SAMPLES = 2000
REVISIONS = ("mer2025", "mer2026")


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("MER_R1_SHARED") or Path(__file__).resolve().parents[1].parent / "shared"
    parser.add_argument("--shared", type=Path, default=Path(default), help="folder with emotion_wheel/ and fixtures/")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"speed": {"builtin": speed(EmotionWheels.builtin)}}
    for revision in REVISIONS:
        folder = arguments.shared / "emotion_wheel" / revision
        if not folder.is_dir():
            print(f"{folder} is absent: not measured")
            continue
        figures["speed"][revision] = speed(lambda folder=folder: EmotionWheels.load(folder))
        figures.setdefault("distance", {})[revision] = distance(arguments.shared, revision)
    figures |= {"git": git_state(), "versions": versions("mer-r1", "numpy", "openpyxl")}
    print(json.dumps(figures, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


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
