"""A dress rehearsal of a preset for GPUs, on a CPU: its unchanged configuration but for what does not fit here.

    python -m recipe.mer_r1.rehearse preset=omni7b cluster=h100_2x8 experiment=mer_r1 [key=value …]

Prints all that differs from the real run, with the reason; runs data, SFT, RL with a stop and a resume, export and one
request to `vllm serve`, each by its own command; ends with a verdict. Repeat the command to continue. Exit code 0: all
is well; 1: a stage or a check failed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from recipe.mer_r1.files import exits
from recipe.mer_r1.pipeline import process
from recipe.mer_r1.pipeline.chain import Chain
from recipe.mer_r1.pipeline.screen import Screen
from recipe.mer_r1.pipeline.stage_run import StageError
from recipe.mer_r1.rehearse import plan, report
from recipe.mer_r1.rehearse.changes import RANKS, Places
from recipe.mer_r1.rehearse.difference import UnexplainedError
from recipe.mer_r1.run import launch
from verl_ext.models.qwen_tokenizer import INSTALL, rank_file


@exits.plain("rehearse")
def main(argv: Sequence[str] | None = None) -> int:
    """Rehearse; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m recipe.mer_r1.rehearse",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for main_ppo")
    parser.add_argument("--layers", type=int, default=2, help="blocks of the text model and of each tower (default 2)")
    parser.add_argument(
        "--ranks", type=int, choices=(1, 2), default=RANKS, help="processes with a shard of the model each (default 2)"
    )
    parser.add_argument(
        "--out", type=Path, help="folder for all files (default outputs/rehearsal/PRESET-CLUSTER-EXPERIMENT)"
    )
    parser.add_argument("--differences", action="store_true", help="print what differs, and run nothing")
    options = parser.parse_intermixed_args(argv)
    console = Console()
    out = options.out or Path("outputs", "rehearsal", default_name(options.overrides))
    places = Places(out)
    launch.prepare_environment("cpu", str(out))
    if rank_file() is None:
        print(
            f"rehearse: the package dashscope, with Qwen's vocabulary, is not installed. Run {INSTALL}", file=sys.stderr
        )
        return exits.INPUT
    try:
        both = plan.trees(options.overrides, places, options.ranks)
        model = report.model_differences(both["sft"].real.preset.sft.model_path, options.layers)
    except (UnexplainedError, ValueError) as error:
        print(f"rehearse: {error}", file=sys.stderr)
        return exits.INPUT
    texts = report.difference_lines(both, model)
    console.print("\n".join(texts), markup=False, highlight=False, soft_wrap=True)
    if options.differences:
        return 0
    process.adopt_orphans()
    process.listen_to_signals()
    demo = Chain(out, plan.stages(both, places, options.layers))
    failed: StageError | None = None
    try:
        with Screen({stage.name: stage.title for stage in demo.stages}, console) as screen:
            demo.run(screen)
    except KeyboardInterrupt:
        console.print("\nStopped; all processes have ended. Run the same command again to continue.", markup=False)
        return exits.INTERRUPTED
    except StageError as error:
        failed = error
    return report.end(console, demo, both, places, texts, failed)


def default_name(overrides: Sequence[str]) -> str:
    """``PRESET-CLUSTER-EXPERIMENT`` of the command line, e.g. omni7b-h100_2x8-mer_r1."""
    given = dict(override.split("=", 1) for override in overrides if "=" in override)
    defaults = {"preset": "tiny", "cluster": "preset", "experiment": "baseline"}
    return "-".join(given.get(group, default) for group, default in defaults.items())


if __name__ == "__main__":
    sys.exit(main())
