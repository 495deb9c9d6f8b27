"""Measure the cost of slow-fast calibration: steps with it, without it, and with the fast forms as a second batch.

    python benchmarks/calibration.py --json [--rounds 8] [key=value …]

One run of main_ppo (experiment=mer_r1) uses the three ways in turn, so that other load on the machine affects all of
them equally. A learning rate of 0 and a shard of one batch keep policy and prompts the same. The numbers are medians
over the rounds after the first. `log_prob_pass` is verl's old_log_prob phase (alignment, the actor's pass, the
signals), plus the second batch if there is one. benchmarks/calibration_forward.py times only the forward, for any
model shape.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the repository, where it is not installed

from recipe.mer_r1.pipeline import process, progress
from recipe.mer_r1.run import logs

MODE = "mer_r1_sync_benchmark"
WAYS = ("baseline", "mer_r1", "naive")


def way_of(step: int) -> str:
    """How step 1, 2, … is taken."""
    return WAYS[(step - 1) % len(WAYS)]


def summarise(steps: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Medians by way and their ratios to the baseline.

    Raises:
        SystemExit: fewer than two rounds.
    """
    by_way: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for step, data in steps.items():
        if step > len(WAYS):  # the first round warms up, and checks the one forward against two
            by_way[way_of(step)].append(data)
    if not all(by_way.values()):
        raise SystemExit(f"{len(steps)} steps; at least {2 * len(WAYS)} are needed")
    whole, alone = {}, {}
    for way, rows in by_way.items():
        whole[way] = statistics.median(row["timing_s/step"] for row in rows)
        alone[way] = statistics.median(row["timing_s/old_log_prob"] for row in rows)
    advantage = {way: statistics.median(row["timing_s/adv"] for row in rows) for way, rows in by_way.items()}
    added = {way: alone[way] + advantage[way] - alone["baseline"] - advantage["baseline"] for way in WAYS}
    return {
        "rounds": len(steps) // len(WAYS) - 1,
        "step_seconds": whole,
        "step_ratio": {way: value / whole["baseline"] for way, value in whole.items()},
        "log_prob_pass_seconds": alone,
        "log_prob_pass_ratio": {way: value / alone["baseline"] for way, value in alone.items()},
        # Generation scatters more than the pass costs: the phases that differ, put on the baseline's step.
        "step_ratio_by_phases": {way: 1 + value / whole["baseline"] for way, value in added.items()},
        "tokens_per_step": statistics.median(row["perf/total_num_tokens"] for rows in by_way.values() for row in rows),
    }


def measure(run_dir: Path, rounds: int, overrides: list[str]) -> dict[str, Any]:
    """Make the run and read its metrics."""
    process.adopt_orphans()
    process.listen_to_signals()
    steps = (rounds + 1) * len(WAYS)
    quiet = ["trainer.val_before_train=false", "trainer.test_freq=-1", f"trainer.save_freq={steps}"]
    fixed = ["experiment=mer_r1", "mer_r1.plugins=[calibration_trainer]", f"trainer.v1.trainer_mode={MODE}"]
    fixed += ["preset.lr=0.0", "data.shuffle=false"]
    fixed += ["data.train_max_samples=${preset.prompts_per_step}", f"preset.steps={steps}", f"run_dir={run_dir}"]
    log = run_dir / "main_ppo.log"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "recipe.mer_r1.main_ppo", *fixed, *quiet, *overrides]
    status = process.Command(command, log).wait(lambda: None)
    if status:
        raise SystemExit("\n".join([*logs.relevant(log), f"the run failed with exit status {status}; see {log}"]))
    return summarise(progress.read_steps(run_dir / "metrics.jsonl"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--rounds", type=int, default=8, help="number of steps of each way, after a warm-up (default 8)"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="overrides for main_ppo, e.g. preset.model_path=DIR"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mer-r1-calibration-") as folder:
        result = measure(Path(folder), arguments.rounds, arguments.overrides)
    if arguments.json:
        print(json.dumps(result, indent=1))
    else:
        for way in WAYS:
            print(
                f"{way:<9} step {result['step_seconds'][way]:.2f} s {result['step_ratio'][way]:.2f}×, "
                f"log-prob pass {result['log_prob_pass_seconds'][way]:.2f} s {result['log_prob_pass_ratio'][way]:.2f}×"
            )


if __name__ == "__main__":
    main()
