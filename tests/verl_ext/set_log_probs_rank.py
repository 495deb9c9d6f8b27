"""Run by test_engine_set_log_probs.py, one process a rank: set log-probs of verl's engine on given batches.

    RANK=… WORLD_SIZE=… MASTER_ADDR=… MASTER_PORT=… python set_log_probs_rank.py MODEL CASES OUT

CASES is a torch file: {"token_sets": …, "token_shares": …, "samples": [one dict a response]}; each rank takes its part.
Writes OUT/rankR.pt: by way (packed, two forwards) and micro-batch size the rows of response and branch, and the
log-probs with and without them.
"""

import os
import sys
from pathlib import Path

import torch
from fsdp_rank import build_engine


def batch_of(samples: list[dict], sets: dict[str, list] | None, micro_batch_size: int):
    """Samples as verl's trainer hands them to the engine."""
    from verl.utils import tensordict_utils as tu
    from verl.utils.dataset.dataset_utils import DatasetPadMode

    jagged = ("input_ids", "responses", "branch_ids", "set_positions", "branch_set_positions", "position_ids")
    tensors = {
        name: torch.nested.as_nested_tensor([sample[name] for sample in samples], layout=torch.jagged)
        for name in jagged
    }
    tensors["loss_mask"] = torch.nested.as_nested_tensor(
        [torch.ones_like(sample["responses"]) for sample in samples], layout=torch.jagged
    )
    settings = {
        "use_remove_padding": False,
        "use_dynamic_bsz": False,
        "micro_batch_size_per_gpu": micro_batch_size,
        "temperature": 0.7,  # set log-probs do not depend on it
        "pad_mode": DatasetPadMode.NO_PADDING,
        "calculate_entropy": True,
    }
    batch = tu.get_tensordict(tensors, settings)
    tu.assign_non_tensor(batch, multi_modal_inputs=[sample["multi_modal_inputs"] for sample in samples])
    for name, values in (sets or {}).items():
        tu.assign_non_tensor_data(batch, name, values)
    return batch


def main() -> None:
    import verl  # noqa: F401  loads the plugin
    from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group_ray

    model, cases_file, out = sys.argv[1:]
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    initialize_global_process_group_ray(timeout_second=120)
    cases = torch.load(cases_file, weights_only=False)
    samples = cases["samples"][len(cases["samples"]) * rank // ranks : len(cases["samples"]) * (rank + 1) // ranks]
    engine = build_engine(model, forward_only=True)
    result = {"engine": type(engine).__name__}

    sets = {name: cases[name] for name in ("token_sets", "token_shares")}

    def infer(sets, micro_batch_size):
        with engine.eval_mode():
            found = engine.infer_batch(batch_of(samples, sets, micro_batch_size))["model_output"]
        return {name: [row.clone() for row in values.unbind()] for name, values in found.items()}

    result["packed"] = infer(sets, 2)
    assert engine._compared == {True}
    assert not engine._differs
    result["packed one by one"] = infer(sets, 1)
    engine._can_share_prompts = lambda micro_batch: False
    result["plain"] = infer(None, 2)
    result["two forwards"] = infer(sets, 2)
    torch.save(result, Path(out) / f"rank{rank}.pt")
    torch.distributed.barrier()
    destroy_global_process_group()


if __name__ == "__main__":
    main()
