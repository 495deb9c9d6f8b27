"""Run by test_learnt_rows.py, one process a rank: updates of verl's engine, ours and verl's own way.

    RANK=… WORLD_SIZE=… MASTER_ADDR=… MASTER_PORT=… python learnt_rows_rank.py MODEL BATCHES OUT SETTINGS

BATCHES is a torch file: name -> samples; each rank takes its share in order. Writes OUT/rankR.pt: way -> losses,
gradient norms, gradients and weights after one step of AdamW on every batch; what the forwards were called with; and
which layers kept gathered weights. SETTINGS is JSON: those of fsdp_rank.py, and `micro_batch`.
"""

import json
import os
import sys
from functools import partial
from pathlib import Path

import torch
from fsdp_rank import build_engine, share

OPTIMIZER = {"optimizer": "AdamW", "lr": 1e-3, "weight_decay": 0.01}


def gathered(module) -> int:
    """Parameters that are not shards."""
    return sum(type(parameter).__name__ != "DTensor" for parameter in module.parameters())


def train(engine, batches: dict, micro_batch: int) -> dict:
    from verl.utils import tensordict_utils as tu
    from verl.workers.utils.losses import sft_loss

    found = {"fused": engine.optimizer.defaults["fused"], "steps": {}, "calls": [], "unshards": {}}
    forward, layer = engine.module.forward, engine.module.thinker.model.layers[0]

    def watched(**inputs):
        places = inputs.get("scores_at")
        mask = inputs["attention_mask"] is not None
        found["calls"].append((None if places is None else len(places), mask, len(inputs["position_ids"])))
        return forward(**inputs)

    engine.module.forward = watched
    group = layer._get_fsdp_state()._fsdp_param_group
    unshard, gathers = group._to_unsharded, []
    group._to_unsharded = lambda: gathers.append(1) or unshard()
    for name, data in batches.items():
        data = data.copy()
        tu.assign_non_tensor(data, micro_batch_size_per_gpu=micro_batch)
        gathers.clear()
        with engine.train_mode():
            output = engine.train_batch(data, partial(sft_loss, config=None))
            found["unshards"][name] = len(gathers)
            gradients = {n: p.grad.full_tensor() for n, p in engine.module.named_parameters() if p.grad is not None}
        found["steps"][name] = {
            "loss": sum(output["loss"]),
            "grad_norm": output["metrics"]["grad_norm"],
            "gradients": {n: g.clone() for n, g in gradients.items()},
            "gathered after the update": gathered(engine.module),
        }
        with engine.eval_mode():
            engine.infer_batch(data.copy())
        found["steps"][name]["gathered after a forward"] = gathered(engine.module.thinker.model.layers)
    found["weights"] = {n: p.full_tensor().clone() for n, p in engine.module.named_parameters()}
    return found


def main() -> None:
    import verl  # noqa: F401  loads the plugin
    from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group_ray

    model, batches_file, out, settings = sys.argv[1:]
    settings = {"optimizer": OPTIMIZER, **json.loads(settings)}
    micro_batch = settings.pop("micro_batch")
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    initialize_global_process_group_ray(timeout_second=120)
    batches = {
        name: share(samples, rank, ranks) for name, samples in torch.load(batches_file, weights_only=False).items()
    }
    result = {"ours": train(build_engine(model, forward_only=False, settings=settings), batches, micro_batch)}

    from verl_ext.actor.learnt_rows import LearntRowsMixin
    from verl_ext.actor.one_rank import OneRankMixin

    LearntRowsMixin._scores_learnt_rows = lambda self, micro_batch: False
    del OneRankMixin.forward_backward_batch, OneRankMixin._build_optimizer
    result["verl's"] = train(build_engine(model, forward_only=False, settings=settings), batches, micro_batch)
    torch.save(result, Path(out) / f"rank{rank}.pt")
    torch.distributed.barrier()
    destroy_global_process_group()


if __name__ == "__main__":
    main()
