"""Explain one response of a saved rollout batch, from its words to its advantage, in the terminal and as an HTML page.

The functions of the training compute everything again from the responses, confidences and signals in the file. The
results are compared with the stored numbers of the run. Save batches with `main_ppo … trainer.rollout_data_dir=DIR`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from recipe.mer_r1.eval.clip_pictures import Picture, Shards, picture, row_of, shards_of
from recipe.mer_r1.explain.choose import ChoiceError, choose_experiment, find_row
from recipe.mer_r1.explain.page import page
from recipe.mer_r1.explain.rollout_batch import BatchError, Row, check_texts, read_batch
from recipe.mer_r1.explain.screen import show
from recipe.mer_r1.explain.trace import trace
from recipe.mer_r1.files import exits
from recipe.mer_r1.method.advantage import TermError
from recipe.mer_r1.method.experiments import Estimator, ExperimentError, load_experiment, names
from recipe.mer_r1.method.wheel import WheelError, load_wheels
from recipe.mer_r1.run.record import CONFIG, read_config

_FPS, _FRAMES, _SIDE = 1.0, 8, 320
"""Of the page's frames: frames per second at least, number at most, pixels of the longest side."""
PROG = "python -m recipe.mer_r1.explain"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=PROG, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument(
        "batch", type=Path, metavar="BATCH", help="saved batch: DIR/STEP.jsonl in trainer.rollout_data_dir"
    )
    result.add_argument(
        "uid", metavar="UID", help="the response: its uid, the first characters of its uid, or its number in the file"
    )
    result.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="experiment=NAME, one of "
        + ", ".join(names())
        + " (default: the experiment with the terms of the file), and "
        "experiment.KEY=VALUE as on the run's command line, e.g. experiment.lambda_cali=0.2",
    )
    result.add_argument(
        "--wheels", type=Path, metavar="DIR", help="mer_r1.wheels.folder of the run (default: built-in)"
    )
    result.add_argument(
        "--least-spread", type=float, default=0.0, metavar="X", help="mer_r1.least_spread of the run (default: 0)"
    )
    result.add_argument("--html", type=Path, metavar="FILE", help="also write an HTML page (a single file)")
    result.add_argument(
        "--shard",
        type=Path,
        action="append",
        metavar="FILE",
        help="shard that holds the clip, for its frames on the page; may be given several times (default: "
        "preset.train_files of the run, if the batch is in the folder of the run or in a folder of it)",
    )
    return result


def clip_of(row: Row, batch: Path, shards: Sequence[Path] | None) -> Picture:
    """Frames of the clip that a response is about, or why there are none.

    Args:
        batch: the file; the run's configuration is looked for in the folders around it.
        shards: that the user gave.
    """
    where = Shards(tuple(map(str, shards or ())))
    if not shards:
        folder = next((one for one in batch.resolve().parents[:3] if (one / CONFIG).is_file()), None)
        if folder is None:
            return Picture(missing=f"there is no {CONFIG} of a run in the folders around {batch}; give --shard FILE")
        where = shards_of((read_config(folder) or {}).get("preset") or {}, "train_files")
    try:
        return picture(row_of(row, where), _FPS, _FRAMES, _SIDE)
    except (ValueError, OSError) as error:  # InputError and ShardError are ValueErrors
        return Picture(missing=str(error))


@exits.plain("explain", "interrupted")
def main(arguments: Sequence[str]) -> int:
    """Explain; returns the exit code, 2 where there is nothing to explain."""
    options = parser().parse_intermixed_args(arguments)
    try:
        batch = read_batch(options.batch)
        check_texts(batch)
        rows = batch.rows
        row = find_row(rows, options.uid)
        wheels = load_wheels(options.wheels)
        chosen, overrides = choose_experiment(rows, options.overrides)
        node = load_experiment(chosen[0], overrides)
        estimator = Estimator.from_config(node.terms, node.whiten, options.least_spread)
        found = trace(row, rows, wheels, " ".join([" or ".join(chosen), *overrides]), node.form, estimator)
    except (BatchError, ChoiceError, ExperimentError, TermError, WheelError) as error:
        print(f"{PROG}: {error}", file=sys.stderr)
        return exits.INPUT
    show(found, Console())
    if options.html:
        options.html.parent.mkdir(parents=True, exist_ok=True)
        options.html.write_text(page(found, clip_of(row, options.batch, options.shard)), encoding="utf-8")
        print(f"page: {options.html}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
