"""Measure the time of an RL run: start-up, and the median of each phase of a step.

    python benchmarks/loop.py --json [--steps 8] [key=value …]     a short run of main_ppo with these overrides
    python benchmarks/loop.py --json --run-dir outputs/demo/rl     an existing run; its start-up time is not known

The phases are verl's timers; update_weights is the transfer of weights to vLLM, and old_log_prob is about 0 where the
run makes no such pass (mer_r1.old_log_probs). A step of the short run has 8 prompts with 4 responses each, for every
preset, so that numbers are comparable; overrides come after that.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the repository, where it is not installed

from recipe.mer_r1.demo import logs, process, progress

SIZE = ("preset.prompts_per_step=8", "preset.responses_per_prompt=4", "preset.micro_batch_size=32")
PHASES = ("gen", "old_log_prob", "ref", "adv", "update_actor", "update_weights", "step")


def phases(run_dir: Path) -> dict[str, Any]:
    """Medians over the steps after the first, which warms up; the first step's own time apart.

    Raises:
        SystemExit: the run has no step after its first.
    """
    path = run_dir / "metrics.jsonl"
    taken = list(progress.read_steps(path).values())
    if len(taken) < 2:
        raise SystemExit(f"{path}: {len(taken)} training steps; at least 2 are needed")
    later = taken[1:]
    medians = {name: statistics.median(data[f"timing_s/{name}"] for data in later) for name in PHASES}
    named = [sum(data[f"timing_s/{name}"] for name in PHASES if name != "step") for data in later]
    medians["other"] = statistics.median(data["timing_s/step"] - part for data, part in zip(later, named, strict=True))
    return {
        "steps": len(taken),
        "first_step_seconds": taken[0]["timing_s/step"],
        "median_seconds": medians,
        "tokens_per_step": statistics.median(data["perf/total_num_tokens"] for data in later),
    }


class Stopwatch:
    """Waits for the first step's line; a step is seen when it is over."""

    def __init__(self, run_dir: Path, steps: int, log: Path):
        self._watch, self._log, self._begin = progress.rl(run_dir, steps), log, time.monotonic()
        self.startup: float | None = None
        self.peak = 0

    def look(self) -> None:
        self.peak = max(self.peak, process.resident_bytes())
        status = self._watch(self._log)
        if self.startup is None and status.step_seconds is not None:
            self.startup = time.monotonic() - self._begin - status.step_seconds * (status.done or 1)


def measure(run_dir: Path, steps: int, overrides: list[str]) -> dict[str, Any]:
    """Run main_ppo for some steps, without validation, with its one checkpoint after the last; read its metrics."""
    process.adopt_orphans()
    process.listen_to_signals()
    run_dir.mkdir(parents=True, exist_ok=True)
    log = run_dir / "main_ppo.log"
    quiet = ["trainer.val_before_train=false", "trainer.test_freq=-1", f"trainer.save_freq={steps}"]
    command = ["-m", "recipe.mer_r1.main_ppo", f"preset.steps={steps}", f"run_dir={run_dir}", *quiet, *SIZE, *overrides]
    watch = Stopwatch(run_dir, steps, log)
    status = process.Command([sys.executable, *command], log).wait(watch.look)
    if status:
        raise SystemExit("\n".join([*logs.relevant(log), f"main_ppo failed with exit status {status}; see {log}"]))
    return {"startup_seconds": watch.startup, "peak_rss_gb": watch.peak / 1e9, **phases(run_dir)}


def table(result: Mapping[str, Any]) -> str:
    """The result as text."""
    startup = result["startup_seconds"]
    lines = [f"start-up to the first step  {'not known' if startup is None else f'{startup:.1f} s'}"]
    lines += [f"first step                  {result['first_step_seconds']:.2f} s"]
    lines += [f"{name:<27} {seconds:.2f} s" for name, seconds in result["median_seconds"].items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--run-dir", type=Path, help="read this run instead of starting one")
    parser.add_argument("--steps", type=int, default=8, help="number of steps of the short run (default 8)")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="overrides for main_ppo, e.g. preset.model_path=DIR"
    )
    arguments = parser.parse_args()
    if arguments.run_dir and arguments.overrides:
        parser.error("--run-dir reads a finished run; overrides (key=value) cannot be used with it")
    if arguments.run_dir:
        result = {"startup_seconds": None, "peak_rss_gb": None, **phases(arguments.run_dir)}
    else:
        with tempfile.TemporaryDirectory(prefix="mer-r1-loop-") as folder:
            result = measure(Path(folder), arguments.steps, arguments.overrides)
    print(json.dumps(result, indent=1) if arguments.json else table(result))


if __name__ == "__main__":
    main()
