"""Run by test_answers.py, one process a rank: an engine answers prompts between its steps.

    RANK=… WORLD_SIZE=… MASTER_ADDR=… MASTER_PORT=… python answers_rank.py MODEL CASES OUT

CASES is a torch file: `prompts` (fields of Prompt), `samples` of a step, `ends`, `banned`, `max_tokens`,
`tokens_at_once`. Writes OUT/rankR.pt: the answers of the sharpened model to this rank's prompts, what was not as before
after them, and the losses of three steps with answers between them and without.
"""

import os
import sys
from functools import partial
from pathlib import Path

import torch
from fsdp_rank import build_engine, share
from omni_cases import sharpened

STEPS = 3


def sharpen(engine):
    """As the policy of the test."""
    for name, tensor in engine.module.named_parameters():
        tensor.data.mul_(sharpened({name: torch.ones([1] * tensor.dim())})[name].item())


def seen(engine):
    """What answers must leave as it is."""
    from torch.distributed.tensor import DTensor

    return {
        "random numbers": torch.get_rng_state().tolist(),
        "modes": [module.training for module in engine.module.modules()],
        "sharded": [isinstance(tensor, DTensor) for tensor in engine.module.parameters()],
        "gradients": [tensor.grad is None for tensor in engine.module.parameters()],
        "rope": engine.module.thinker.rope_deltas,
        "mode": engine.mode,
    }


def main() -> None:
    import verl  # noqa: F401  loads the plugin
    from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group_ray
    from verl.workers.utils.losses import sft_loss

    from verl_ext.models.greedy import Prompt

    model, cases, out = sys.argv[1:]
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    initialize_global_process_group_ray(timeout_second=120)
    case = torch.load(cases, weights_only=False)
    prompts = [Prompt(**fields) for fields in case["prompts"]][rank::ranks]
    asked = {name: case[name] for name in ("max_tokens", "ends", "banned", "tokens_at_once")}
    result = {"changed": [], "losses": {}}
    for way in ("with answers", "without"):
        engine = build_engine(model, forward_only=False)
        sharpen(engine)
        losses = []
        for step in range(STEPS):
            if way == "with answers":
                engine.module.train()
                before = seen(engine)
                answers = engine.answers(iter(prompts), **asked)
                after = seen(engine)
                result["changed"] += [name for name in before if before[name] != after[name]]
                if step == 0:
                    result["answers"] = answers
            with engine.train_mode():
                output = engine.train_batch(share(case["samples"], rank, ranks), partial(sft_loss, config=None))
            losses.append((*output["loss"], output["metrics"]["grad_norm"]))
        result["losses"][way] = losses
    torch.save(result, Path(out) / f"rank{rank}.pt")
    torch.distributed.barrier()
    destroy_global_process_group()


if __name__ == "__main__":
    main()
