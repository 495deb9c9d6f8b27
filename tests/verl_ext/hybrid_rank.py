"""Run by test_hybrid_sharding.py, one process a rank: verl's engine on a mesh of two dimensions and on one of one.

    RANK=… WORLD_SIZE=… MASTER_ADDR=… MASTER_PORT=… python hybrid_rank.py MODEL SAMPLES OUT WAYS

SAMPLES is a torch file, a list; each rank takes its share in order, one sample a micro-batch. WAYS is JSON: by name,
settings of fsdp_rank.build_engine. Writes OUT/rankR.pt, by name: the mesh; log-probs before and after each of two steps
of SGD; the first step's gradients, and the norms of both steps; the weights as they are sent to the rollout, and
whether a new engine that loads the checkpoint has them; and OUT/NAME/actor, the checkpoint.
"""

import json
import os
import sys
from functools import partial
from pathlib import Path

import torch
from fsdp_rank import build_engine, log_probs, share


def gradients(engine, data) -> dict[str, torch.Tensor]:
    """All gradients of an update, in full, before they are clipped; nothing is changed."""
    from verl.workers.utils.losses import sft_loss

    with engine.train_mode():
        engine.optimizer_zero_grad()
        engine.forward_backward_batch(data.copy(), partial(sft_loss, config=None))
        return {
            name: parameter.grad.full_tensor().clone()
            for name, parameter in engine.module.named_parameters()
            if parameter.grad is not None
        }


def weights(engine) -> dict[str, torch.Tensor]:
    """As they are sent to the rollout."""
    return {name: tensor.clone() for name, tensor in engine.get_per_tensor_param(base_sync_done=True)[0]}


def step(engine, data) -> float:
    """One update; the norm of its gradients."""
    from verl.workers.utils.losses import sft_loss

    with engine.train_mode():
        return engine.train_batch(data.copy(), partial(sft_loss, config=None))["metrics"]["grad_norm"]


def run(model: str, settings: dict, data, out: Path) -> dict:
    """Two steps, log-probs around each, the checkpoint, and an engine that resumes from it."""
    engine = build_engine(model, forward_only=False, settings=settings)
    found = {"mesh": (engine.device_mesh.mesh.tolist(), engine.device_mesh.mesh_dim_names)}
    found["before"] = log_probs(engine, data)
    found["gradients"] = gradients(engine, data)
    found["grad_norms"] = [step(engine, data)]
    found["between"] = log_probs(engine, data)
    found["grad_norms"].append(step(engine, data))
    found |= {"after": log_probs(engine, data), "weights": weights(engine)}
    engine.save_checkpoint(str(out / "actor"))
    resumed = build_engine(model, forward_only=False, settings=settings)
    resumed.load_checkpoint(str(out / "actor"))
    again = weights(resumed)
    return found | {"resumed": all(torch.equal(again[name], value) for name, value in found["weights"].items())}


def main() -> None:
    import verl  # noqa: F401  loads the plugin
    from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group_ray

    model, samples_file, out, ways = sys.argv[1:]
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    initialize_global_process_group_ray(timeout_second=120)
    data = share(torch.load(samples_file, weights_only=False), rank, ranks)
    found = {name: run(model, way, data, Path(out) / name) for name, way in json.loads(ways).items()}
    torch.save(found, Path(out) / f"rank{rank}.pt")
    torch.distributed.barrier()
    destroy_global_process_group()


if __name__ == "__main__":
    main()
