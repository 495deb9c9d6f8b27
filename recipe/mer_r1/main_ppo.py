"""RL: ``python -m recipe.mer_r1.main_ppo preset=tiny experiment=baseline [key=value …]``.

verl's own V1 trainer with four things plugged in: the Qwen2.5-Omni Thinker (:mod:`verl_ext`), the emotion reward
manager, the trainer's overridden steps, and an agent loop that encodes each clip once.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

from omegaconf import DictConfig

from recipe.mer_r1.pipeline import progress
from recipe.mer_r1.pipeline.shown import shown
from recipe.mer_r1.run import heading, inputs, launch, output, record, state, trackers


def main(config: DictConfig) -> None:
    """Show what the run is and how far it is; all other output goes to its log."""
    inputs.check_model_folder(config.actor_rollout_ref.model.path, "preset.model_path")
    for key in ("train_files", "val_files"):
        inputs.check_shards_exist(config.data[key], f"preset.{key}")
    run_dir, steps = Path(config.run_dir), state.readable(lambda: planned_steps(config))
    with output.to_log(run_dir / output.LOG, "main_ppo", config.verbose) as screen:
        screen.console.print("\n".join(heading.of_rl(config, steps)), markup=False, highlight=False, soft_wrap=True)
        watch = progress.rl(run_dir, steps, config.trainer.val_before_train)
        title = f"RL: {config.experiment.name}"
        with shown(screen, config.experiment.name, title, lambda: watch(run_dir / output.LOG)):
            train(config)
        output.say(f"model: {run_dir / 'model'}")


def train(config: DictConfig) -> None:
    """Check the inputs, then hand over to verl."""
    launch.prepare_environment(config.preset.device, config.preset.model_path)
    from verl_ext import plugin

    plugin.require()
    from recipe.mer_r1.run import on_policy, preflight

    preflight.check_ppo(config)
    print(on_policy.settle(config))
    record.write(config, "ppo")
    os.environ["VERL_FILE_LOGGER_PATH"] = os.path.abspath(f"{config.run_dir}/metrics.jsonl")
    trackers.prepare(config.run_dir)
    from recipe.mer_r1.live.writer import kept_live
    from recipe.mer_r1.training.task_runner import run

    run_dir = Path(config.run_dir)
    page = kept_live(run_dir) if config.mer_r1.live else nullcontext()
    with page as file, state.recorded(run_dir, planned_steps(config)):
        if file:
            output.say(f"live page: {file}")
        run(config)


def planned_steps(config: DictConfig) -> int:
    """Steps of the whole run, as verl counts them: those asked for, or whole batches of each epoch's rows."""
    data, trainer = config.data, config.trainer
    if trainer.total_training_steps:
        return trainer.total_training_steps
    rows = state.shard_rows(data.train_files)
    if data.train_max_samples > 0:
        rows = min(rows, data.train_max_samples)
    return rows // data.train_batch_size * trainer.total_epochs


if __name__ == "__main__":
    launch.run("ppo", main)
