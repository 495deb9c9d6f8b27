"""verl's SFT trainer with this recipe's data order and checkpoints, a metrics file that survives a resume, a stop when
asked to, and the final model."""

from __future__ import annotations

import gc
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm
from transformers import AutoConfig
from verl.trainer.sft_trainer import SFTTrainer
from verl.utils import tensordict_utils as tu
from verl.utils.fsdp_utils import get_fsdp_full_state_dict

from recipe.mer_r1.run import learning, steps, stop
from recipe.mer_r1.run.sft_checkpoint import WholeCheckpoints
from recipe.mer_r1.run.sft_scoring import scores_at
from verl_ext.models.adapters import has_adapters, merge_adapters
from verl_ext.models.checkpoint import save_full_omni

_CONSOLE_EVERY = 20


class MERSFTTrainer(SFTTrainer):
    """Trains on the dataset's draws in their own order.

    The dataset orders its draws itself (each pass over the rows anew), so that example `i` of a run is the same
    whatever the batch size or number of ranks, and after a resume.
    """

    scores_of: Callable[[Any], Any] | None = None
    """From the model's processor to what scores the model in training (`recipe.mer_r1.eval.sft_scores.ClipScores`)."""
    stopped: bool = False
    """Whether the run was asked to stop before its last step (:mod:`recipe.mer_r1.run.stop`)."""
    _log: StepLog | None = None  # on the first rank
    _scores: Any = None

    def _build_dataset(self) -> None:
        """As verl; the validation set (`data.val_files`) is each of its rows once, the same examples every time."""
        super()._build_dataset()
        if self.val_dataset is not None:
            once = {"draws": None, "passes": 1}
            self.val_dataset.config = OmegaConf.merge(self.val_dataset.config, once)

    def _build_dataloader(self) -> None:
        super()._build_dataloader()
        self.train_sampler.shuffle = False

    def _build_ckpt_handler(self) -> None:
        super()._build_ckpt_handler()
        self.ckpt_handler = WholeCheckpoints(self.ckpt_handler)

    def fit(self) -> None:
        """verl's loop; a run that had already taken all its steps trains no further."""
        if self.resume_global_step >= self.total_training_steps or self._stop_after(self.resume_global_step):
            return
        if self.rank == 0:
            file = Path(self.config.run_dir) / "metrics.jsonl"
            self._log = StepLog(file, self.resume_global_step, self.total_training_steps)
            self._log.validations(self.training_client, 0 if self.val_dataloader is None else len(self.val_dataloader))
        if self.scores_of is not None:
            self._scores = self.scores_of(self.model_config.processor)
        self._after_each_step()
        # verl collects garbage before each checkpoint. Modules and the model are not garbage: do not look at them.
        gc.freeze()
        super().fit()

    def _after_each_step(self) -> None:
        """Log the step, look for the stop file, score the clips: verl's loop has no hook after a step."""
        train_batch, count = self.training_client.train_batch, itertools.count(self.resume_global_step + 1)

        def stepped(data: Any) -> Any:
            start = time.perf_counter()
            output, step = train_batch(data=data), next(count)
            if self._log is not None:
                self._log.write(tu.get(output, "metrics"), time.perf_counter() - start)
            self._stop_after(step)
            if self._scores is not None and not self.stopped:
                self._score(step, output)
            return output

        self.training_client.train_batch = stepped

    def _score(self, step: int, output: Any) -> None:
        """Score the clips after some steps and after the last one."""
        if not scores_at(self.config.preset.sft.score_every, step, self.total_training_steps):
            return
        found = self._scores(self.engine, step)
        if self._log is not None:
            self._log.write_scores(found.metrics, found.text, found.warning)
            tu.get(output, "metrics").update(found.metrics)  # verl hands them to the trackers

    def _stop_after(self, step: int) -> bool:
        """Make `step` the last one if the first rank finds the stop file; verl's loop saves it and ends."""
        file = Path(self.config.run_dir) / stop.FILE
        asked = torch.tensor(self.rank == 0 and step < self.total_training_steps and file.exists())
        dist.broadcast(asked, src=0)
        if asked:
            self.total_training_steps, self.stopped = step, True
            if self.rank == 0:
                file.write_text(str(step))
        return self.stopped

    def export(self, out: Path) -> None:
        """Write the model as a full-Omni folder, adapters merged; to be called on every rank."""
        state = get_fsdp_full_state_dict(self.engine.module)
        if self.rank == 0:
            if has_adapters(state):
                state = merge_adapters(state, self.model_config.lora_alpha / self.model_config.lora_rank)
            config = AutoConfig.from_pretrained(self.model_config.local_path)
            save_full_omni(out, state, config, self.model_config.processor)
        dist.barrier()


class StepLog:
    """A line of JSON a step, in the form of verl's file logger, which would empty the file at a resume.

    Args:
        path: the file; lines of steps after `step` (of a run that went on after its last checkpoint) are dropped.
        step: the last step already taken.
        total: steps of the run, for the console.
    """

    def __init__(self, path: Path, step: int, total: int):
        self.path, self.step, self.total = path, step, total
        steps.keep_until(path, step)
        self.watch = learning.Watch(steps.read(path))
        self._losses: list[float] = []

    def validations(self, worker: Any, batches: int) -> None:
        """Log the mean loss of every `batches` calls of `worker.infer_batch`: those of a validation."""
        infer_batch = worker.infer_batch

        def validated(data: Any) -> Any:
            output = infer_batch(data)
            self._losses.append(tu.get(output, "metrics")["loss"])  # the mean over all ranks
            if len(self._losses) == batches:
                self.write_validation(sum(self._losses) / batches)
                self._losses = []
            return output

        worker.infer_batch = validated

    def write_validation(self, loss: float) -> None:
        """Append the loss of a validation after the last step; print it."""
        with self.path.open("a") as file:
            file.write(json.dumps({"step": self.step, "data": {"val/loss": loss}}) + "\n")
        tqdm.write(f"step {self.step}/{self.total}  validation loss {loss:.3f}")

    def write_scores(self, metrics: dict[str, float], text: str, warning: str) -> None:
        """Append the scores of answers after the last step; print them, and which clips failed."""
        with self.path.open("a") as file:
            file.write(json.dumps({"step": self.step, "data": metrics}) + "\n")
        tqdm.write(f"step {self.step}/{self.total}  greedy answers: {text}")
        if warning:
            tqdm.write(f"WARNING: step {self.step}: {warning}")

    def write(self, metrics: dict[str, Any], seconds: float) -> None:
        """Append one step's metrics; print every twentieth, the first, the last, and warnings."""
        self.step += 1
        named = {f"train/{key}": metrics[key] for key in ("loss", "grad_norm", "lr")}
        data = {**named, "perf/step_seconds": seconds}
        with self.path.open("a") as file:
            file.write(json.dumps({"step": self.step, "data": data}) + "\n")
        if self.step in (1, self.total) or self.step % _CONSOLE_EVERY == 0:
            tqdm.write(
                f"step {self.step}/{self.total}  loss {metrics['loss']:.3f}  grad norm {metrics['grad_norm']:.2f}  "
                f"lr {metrics['lr']:.1e}  {seconds:.2f} s"
            )
        self.watch.tell(self.step, data, tqdm.write)


def run(config: DictConfig, scores_of: Callable[[Any], Any] | None = None) -> Path | None:
    """Train in the process group that this process belongs to, and export.

    Args:
        scores_of: see :attr:`MERSFTTrainer.scores_of`; None: no scores.

    Returns:
        The folder of the model; None after a stop.
    """
    from verl.utils import distributed

    # On a CPU verl's first function names one backend twice; the plugin fixes the second.
    on_cpu = config.trainer.device == "cpu"
    start = distributed.initialize_global_process_group_ray if on_cpu else distributed.initialize_global_process_group
    start()
    try:
        trainer = MERSFTTrainer(config)
        trainer.scores_of = scores_of
        trainer.fit()
        if trainer.stopped:
            return None
        out = Path(config.run_dir) / "model"
        trainer.export(out)
        return out
    finally:
        distributed.destroy_global_process_group()
