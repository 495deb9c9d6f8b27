"""Run by test_on_policy.py, one process a rank: updates with the old log-probs of a pass, and with the update's own.

    RANK=… WORLD_SIZE=… MASTER_ADDR=… MASTER_PORT=… python on_policy_rank.py MODEL CASES OUT MICRO_BATCH_SIZE…

CASES is a torch file: one dict a response; each rank takes its part. Writes OUT/rankR.pt, by size of a micro-batch and
way: the loss, all gradients before they are clipped, the metrics as verl's worker returns them; and the log-probs and
entropies of the pass.
"""

import os
import sys
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "verl_ext"))

from fsdp_rank import build_engine

JAGGED = ("input_ids", "position_ids", "prompts", "responses", "response_mask", "rollout_log_probs", "ref_log_prob")
NOISE = 0.5
"""Nats by which the rollout's log-probs are made wrong."""


def nested(rows):
    return torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)


def batch_of(samples, micro_batch_size, ranks, **columns):
    """A share of the batch as verl's trainer hands it to the update."""
    from verl.utils import tensordict_utils as tu
    from verl.utils.dataset.dataset_utils import DatasetPadMode

    tensors = {name: nested(sample[name] for sample in samples) for name in (*JAGGED, "advantages")}
    tensors["loss_mask"] = tensors["response_mask"]
    settings = {
        "use_remove_padding": False,
        "use_dynamic_bsz": False,
        "micro_batch_size_per_gpu": micro_batch_size,
        "temperature": 1.0,
        "pad_mode": DatasetPadMode.NO_PADDING,
        "calculate_entropy": True,
        "global_batch_size": len(samples) * ranks,
    }
    batch = tu.get_tensordict(tensors | columns, settings)
    names = {name: [sample[name] for sample in samples] for name in ("multi_modal_inputs", "uid")}
    tu.assign_non_tensor(batch, **names)
    return batch


def as_worker_returns(engine, output):
    """Metrics over micro-batches and ranks, by verl's own functions (TrainingWorker)."""
    from verl.utils.metric import Metric
    from verl.utils.torch_functional import allgather_dict_into_dict

    found = allgather_dict_into_dict(data=output["metrics"], group=engine.get_data_parallel_group())
    return {name: Metric.aggregate_dp(values) for name, values in found.items() if isinstance(values[0], Metric)}


def updated(engine, data, loss):
    """One update's loss, gradients and metrics; the weights stay."""
    with engine.train_mode():
        engine.optimizer_zero_grad()
        output = engine.forward_backward_batch(data, loss)
        gradients = {
            name: parameter.grad.full_tensor().clone()
            for name, parameter in engine.module.named_parameters()
            if parameter.grad is not None
        }
    total = torch.tensor(output["loss"]).sum()
    torch.distributed.all_reduce(total, op=torch.distributed.ReduceOp.AVG)
    return {"loss": total.item(), "gradients": gradients, "metrics": as_worker_returns(engine, output)}


def ways(engine, samples, size, ranks):
    from verl.workers.utils.losses import ppo_loss
    from verl.workers.utils.padding import response_from_nested

    from recipe.mer_r1.run import launch
    from recipe.mer_r1.training.on_policy import loss_of

    actor = launch.compose("ppo", ["preset=tiny", "preset.kl_coef=0.5"]).actor_rollout_ref.actor
    own = loss_of(actor)
    with_pass = partial(ppo_loss, **own.keywords)
    with engine.eval_mode():
        output = engine.infer_batch(batch_of(samples, size, ranks))["model_output"]
    mask = nested(sample["response_mask"] for sample in samples)
    old, entropy = (response_from_nested(output[name], mask) for name in ("log_probs", "entropy"))
    generator = torch.Generator().manual_seed(int(os.environ["RANK"]))
    noise = [NOISE * torch.randn(len(row), generator=generator) for row in old.unbind()]
    exact = nested(row.clone() for row in old.unbind())
    noisy = nested(row + by for row, by in zip(old.unbind(), noise, strict=True))

    def batch(**columns):
        return batch_of(samples, size, ranks, **columns)

    return {
        "pass": updated(engine, batch(old_log_probs=old, rollout_log_probs=exact), with_pass),
        "update": updated(engine, batch(rollout_log_probs=exact), own),
        "update, rollout off": updated(engine, batch(rollout_log_probs=noisy), own),
        "rollout's as old": updated(engine, batch(old_log_probs=noisy, rollout_log_probs=noisy), with_pass),
        "old": [row.clone() for row in old.unbind()],
        "entropy": [row.clone() for row in entropy.unbind()],
        "noise": noise,
    }


def main() -> None:
    import verl  # noqa: F401  loads the plugin
    from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group_ray

    model, cases_file, out, *sizes = sys.argv[1:]
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    initialize_global_process_group_ray(timeout_second=120)
    samples = torch.load(cases_file, weights_only=False)
    own = samples[len(samples) * rank // ranks : len(samples) * (rank + 1) // ranks]
    engine = build_engine(model, forward_only=False)
    torch.save({size: ways(engine, own, int(size), ranks) for size in sizes}, Path(out) / f"rank{rank}.pt")
    torch.distributed.barrier()
    destroy_global_process_group()


if __name__ == "__main__":
    main()
