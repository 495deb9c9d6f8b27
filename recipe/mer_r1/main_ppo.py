"""RL: ``python -m recipe.mer_r1.main_ppo preset=tiny experiment=baseline [key=value …]``.

verl's own V1 trainer with four things plugged in: the Qwen2.5-Omni Thinker (:mod:`verl_ext`), the emotion reward
manager, the trainer's overridden steps, and an agent loop that encodes each clip once.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

from omegaconf import DictConfig

from recipe.mer_r1.run import launch, record, state, trackers


def main(config: DictConfig) -> None:
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
            print(f"live page: {file}")
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
