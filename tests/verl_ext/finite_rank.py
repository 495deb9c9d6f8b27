"""Run by test_finite.py, one process a rank: updates whose loss or gradients are not finite numbers.

    RANK=… WORLD_SIZE=… MASTER_ADDR=… MASTER_PORT=… python finite_rank.py MODEL SAMPLES OUT

SAMPLES is a torch file, a list; each rank takes its share in order, one sample a micro-batch. Writes OUT/rankR.pt: by
fault, the error's text and whether any weight or state of the optimizer has changed.
"""

import os
import sys
from functools import partial
from pathlib import Path

import torch
from fsdp_rank import build_engine, share

WRONG_RANK = 1


def planted(fault: str, rank: int):
    """verl's loss with a fault; it counts its micro-batches."""
    from verl.workers.utils.losses import sft_loss

    seen = []

    def loss(model_output, data, dp_group=None):
        found, metrics = sft_loss(None, model_output, data, dp_group)
        seen.append(1)
        if fault == "loss" and rank == WRONG_RANK and len(seen) == 2:
            found = found * float("nan")
        if fault == "gradient" and rank == WRONG_RANK:  # the root of 0 has no slope: 0 · ∞
            found = found + (0 * model_output["log_probs"].values()).abs().sqrt().sum()
        return found, metrics

    return partial(loss)


def state(engine) -> list[torch.Tensor]:
    """Weights, and the moments of AdamW."""
    moments = [v for row in engine.optimizer.state.values() for v in row.values() if isinstance(v, torch.Tensor)]
    return [
        (t.full_tensor() if hasattr(t, "full_tensor") else t).clone() for t in (*engine.module.parameters(), *moments)
    ]


def main() -> None:
    import verl  # noqa: F401  loads the plugin
    from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group_ray

    from verl_ext.actor.finite import NonFiniteError

    model, samples, out = sys.argv[1:]
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    initialize_global_process_group_ray(timeout_second=120)
    data = share(torch.load(samples, weights_only=False), rank, ranks)
    engine = build_engine(model, forward_only=False, settings={"optimizer": {"optimizer": "AdamW", "lr": 1e-3}})
    found = {}
    for fault in ("none", "loss", "gradient", "none again"):
        before, error = state(engine), ""
        try:
            with engine.train_mode():
                engine.train_batch(data.copy(), planted(fault, rank))
        except NonFiniteError as raised:
            error = str(raised)
        after = state(engine)
        same = len(before) == len(after) and all(map(torch.equal, before, after))
        found[fault] = {"error": error, "same": same}
    torch.save(found, Path(out) / f"rank{rank}.pt")
    torch.distributed.barrier()
    destroy_global_process_group()


if __name__ == "__main__":
    main()
