"""Supervised fine-tuning: ``python -m recipe.mer_r1.main_sft preset=tiny [key=value …]``.

verl's own SFT trainer on clips. One rank runs in this process; more are started by torchrun, or by the scheduler's
own launcher on several nodes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from recipe.mer_r1.pipeline import progress
from recipe.mer_r1.pipeline.shown import shown
from recipe.mer_r1.run import heading, launch, output, record, state, stop, trackers
from recipe.mer_r1.run.inputs import PreflightError
from verl_ext.platform import ports


def main(config: DictConfig) -> None:
    """Check the inputs, start the ranks, hand over to verl; the first rank shows how far the run is."""
    launch.prepare_environment(config.trainer.device, config.model.path)
    from recipe.mer_r1.run import sft_preflight

    if "RANK" not in os.environ:  # the first process, not one that torchrun has started
        sft_preflight.check_cheap(config)
        if config.trainer.n_gpus_per_node > 1:
            sft_preflight.check_shards(config)
            check_scored(config)
        start_ranks(config.trainer.nnodes, config.trainer.n_gpus_per_node)
    run_dir = Path(config.run_dir)
    with output.to_log(run_dir / output.LOG, "main_sft", config.verbose) as screen:
        if os.environ["RANK"] != "0":
            train(config)
            return
        steps = state.readable(lambda: planned_steps(config))
        screen.console.print("\n".join(heading.of_sft(config, steps)), markup=False, highlight=False, soft_wrap=True)
        watch = progress.sft(run_dir, steps, config.preset.sft.score_every)
        with shown(screen, "sft", "supervised fine-tuning", lambda: watch(run_dir / output.LOG)):
            train(config)
        output.say(f"model: {run_dir / 'model'}")


def train(config: DictConfig) -> None:
    """Check the rows and train, as this process' rank."""
    trackers.prepare(config.run_dir)
    from verl_ext import plugin

    plugin.require()
    from recipe.mer_r1.run import sft_preflight

    if os.environ["RANK"] == "0":
        print("verl_ext\n  " + "\n  ".join(plugin.report()))
    sft_preflight.check_rows(config)
    check_scored(config)
    if os.environ["RANK"] == "0":
        record.write(config, "sft")
    from recipe.mer_r1.training.sft_trainer import run

    with as_first_rank(config) if os.environ["RANK"] == "0" else nullcontext():
        run(config, scores_of(config))


def check_scored(config: DictConfig) -> None:
    """Every row of the shards whose clips are scored (`preset.sft.score_every`); a few prompts are encoded."""
    if not config.preset.sft.score_every:
        return
    from verl.utils import hf_processor

    from recipe.mer_r1.eval.sft_scores import ClipScores
    from recipe.mer_r1.run.sft_scoring import check_scoring

    check_scoring(config)
    try:
        ClipScores(config, hf_processor(config.model.path)).check_prompts()
    except ValueError as error:  # ShardError and TooLongError are ValueErrors
        raise PreflightError(f"preset.sft.score_every: {error}") from error


def scores_of(config: DictConfig) -> Callable[[Any], Any] | None:
    """What scores the model while it trains; None where the run asks for no scores."""
    if not config.preset.sft.score_every:
        return None
    from recipe.mer_r1.eval.sft_scores import ClipScores

    return lambda processor: ClipScores(config, processor)


@contextmanager
def as_first_rank(config: DictConfig) -> Iterator[None]:
    """What one rank does for all: the run's record, and listening for the signal to stop."""
    run_dir = Path(config.run_dir)
    # torchrun takes any other status than 0 for a failure.
    stopped = 0 if "TORCHELASTIC_RUN_ID" in os.environ else stop.EXIT_CODE
    with (
        state.recorded(run_dir, planned_steps(config)),
        stop.on_signal(run_dir, "main_sft", exit_code=stopped),
    ):
        yield


def planned_steps(config: DictConfig) -> int:
    """Steps of the whole run: those asked for, or the whole batches of all epochs' draws."""
    sft = config.preset.sft
    return sft.steps or state.shard_rows(config.data.train_files) * sft.epochs // sft.batch_size


def start_ranks(nnodes: int, ranks_per_node: int) -> None:
    """Make this process the only rank, or replace it by torchrun with the same arguments."""
    if nnodes > 1:
        raise SystemExit(
            f"preset.nnodes={nnodes}: start the same command on every node with torchrun: "
            f"--nnodes={nnodes} --nproc-per-node={ranks_per_node} --rdzv-backend=c10d --rdzv-endpoint=HOST:PORT "
            "-m recipe.mer_r1.main_sft …"
        )
    if ranks_per_node > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks_per_node}"]
        os.execv(sys.executable, [sys.executable, *launcher, "-m", "recipe.mer_r1.main_sft", *sys.argv[1:]])
    alone = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1}
    os.environ.update({name: str(value) for name, value in alone.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(ports.free_port()))


if __name__ == "__main__":
    launch.run("sft", main)
