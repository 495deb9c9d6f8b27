"""One short run of main_ppo, started and measured; or an existing run, read. Used by loop.py."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the repository, where it is not installed

from process_tree import TreeWatch

from recipe.mer_r1.pipeline import process, progress
from recipe.mer_r1.run import logs

PHASES = ("gen", "encode", "old_log_prob", "ref", "adv", "update_actor", "update_weights")
"""verl's timers; encode is a phase of ms-swift only (benchmarks/peers)."""


def phases(run_dir: Path) -> dict[str, Any]:
    """Medians over the steps after the first, which warms up; the first step's own time apart.

    A phase that the run has in no step is left out; in a step without a phase, that phase counts as 0 s.

    Raises:
        SystemExit: the run has no step after its first.
    """
    path = run_dir / "metrics.jsonl"
    taken = list(progress.read_steps(path).values())
    if len(taken) < 2:
        raise SystemExit(f"{path}: {len(taken)} training steps; at least 2 are needed")
    later = taken[1:]
    seen = [name for name in PHASES if any(f"timing_s/{name}" in data for data in later)]
    parts = {name: [data.get(f"timing_s/{name}", 0.0) for data in later] for name in seen}
    whole = [data["timing_s/step"] for data in later]
    parts["step"] = whole
    parts["other"] = [step - sum(parts[name][index] for name in seen) for index, step in enumerate(whole)]
    return {
        "steps": len(taken),
        "first_step_seconds": taken[0]["timing_s/step"],
        "median_seconds": {name: statistics.median(values) for name, values in parts.items()},
        "tokens_per_step": statistics.median(data["perf/total_num_tokens"] for data in later),
    }


def watched(command: Sequence[str], run_dir: Path, log: Path) -> dict[str, Any]:
    """Run a command that writes ``run_dir/metrics.jsonl``; its phases, start-up, memory and CPU time.

    Raises:
        SystemExit: the command failed; the end of its log is in the message.
    """
    process.adopt_orphans()
    process.listen_to_signals()
    run_dir.mkdir(parents=True, exist_ok=True)
    watch = TreeWatch(run_dir / "metrics.jsonl")
    status = process.Command(command, log).wait(watch.look)
    if status:
        shown = " ".join(command)
        raise SystemExit("\n".join([*logs.relevant(log, 40), f"exit status {status} of: {shown}"]))
    taken = progress.read_steps(run_dir / "metrics.jsonl").values()
    return {**watch.summary([data["timing_s/step"] for data in taken]), **phases(run_dir)}


def short_run(run_dir: Path, steps: int) -> list[str]:
    """Overrides of a run without validation, with its one checkpoint after the last step."""
    quiet = ["trainer.val_before_train=false", "trainer.test_freq=-1", f"trainer.save_freq={steps}"]
    return [f"preset.steps={steps}", f"run_dir={run_dir}", *quiet]


def measure(run_dir: Path, steps: int, overrides: Sequence[str], tree: Path | None = None) -> dict[str, Any]:
    """Run main_ppo for some steps and measure it.

    Args:
        tree: the checkout whose code runs; None: as this process would import it.
    """
    where = [] if tree is None else ["env", f"--chdir={tree}", f"PYTHONPATH={tree}"]
    command = [*where, sys.executable, "-m", "recipe.mer_r1.main_ppo", *short_run(run_dir, steps), *overrides]
    return watched(command, run_dir, run_dir / "main_ppo.log")
