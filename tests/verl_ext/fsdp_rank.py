"""Run by test_two_ranks.py, one process a rank: verl's own engine on given batches.

    RANK=… WORLD_SIZE=… MASTER_ADDR=… MASTER_PORT=… python fsdp_rank.py MODEL BATCHES OUT [SETTINGS]

BATCHES is a torch file: name -> four samples; each rank takes its share in order, one sample a micro-batch. Writes
OUT/rankR.pt: log-probs before and after one step of SGD on every batch, losses, gradient norms, the weights as they
are sent to the rollout; and OUT/actor, a checkpoint. SETTINGS is JSON, fields of verl's HFModelConfig, its engine's
fsdp_size and reshard_after_forward, and `optimizer`, fields of its optimizer.
"""

import json
import os
import sys
from functools import partial
from pathlib import Path

import torch

RATE = 0.1  # gradients are clipped to norm 1


def build_engine(model: str, forward_only: bool, settings: dict | None = None):
    from verl.trainer.config import CheckpointConfig
    from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig
    from verl.workers.engine import EngineRegistry

    settings = dict(settings or {})
    sharding = {name: settings.pop(name) for name in ("fsdp_size", "reshard_after_forward") if name in settings}
    optimizer = {"optimizer": "SGD", "lr": RATE, "weight_decay": 0.0, **settings.pop("optimizer", {})}
    precision = dict.fromkeys(("param_dtype", "reduce_dtype", "buffer_dtype"), "fp32")
    engine = EngineRegistry.new(
        model_type="language_model",
        backend="fsdp2",
        model_config=HFModelConfig(
            path=model,
            use_remove_padding=False,
            enable_gradient_checkpointing=settings.pop("enable_gradient_checkpointing", not forward_only),
            override_config={"attn_implementation": "sdpa", "tie_word_embeddings": False}
            | settings.pop("override", {}),
            **settings,
        ),
        engine_config=FSDPEngineConfig(
            strategy="fsdp2",
            forward_only=forward_only,
            use_torch_compile=False,
            mixed_precision=precision,
            **sharding,
        ),
        optimizer_config=FSDPOptimizerConfig(**optimizer, total_training_steps=10, lr_warmup_steps=0),
        checkpoint_config=CheckpointConfig(),
    )
    engine.initialize()
    return engine


def share(samples: list, rank: int, ranks: int):
    """This rank's part of a batch, as verl's SFT trainer collates it."""
    from verl.utils import tensordict_utils as tu
    from verl.utils.dataset.dataset_utils import DatasetPadMode, SFTTensorCollator

    own = samples[len(samples) * rank // ranks : len(samples) * (rank + 1) // ranks]
    settings = {
        "use_remove_padding": False,
        "use_dynamic_bsz": False,
        "micro_batch_size_per_gpu": 1,
        "temperature": 1.0,
        "pad_mode": DatasetPadMode.NO_PADDING,
        "global_batch_size": len(samples),
    }
    return tu.get_tensordict(SFTTensorCollator(DatasetPadMode.NO_PADDING)(own), settings)


def log_probs(engine, data) -> list[torch.Tensor]:
    """Log-probs of the tokens under the loss mask, one tensor a sample."""
    with engine.eval_mode():
        found = engine.infer_batch(data.copy())["model_output"]["log_probs"]
    masks = [mask.roll(-1).bool() for mask in data["loss_mask"].unbind()]
    return [values[mask] for values, mask in zip(found.unbind(), masks, strict=True)]


def main() -> None:
    import verl  # noqa: F401  loads the plugin
    from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group_ray
    from verl.workers.utils.losses import sft_loss

    model, batches_file, out, settings = [*sys.argv[1:], "{}"][:4]
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    initialize_global_process_group_ray(timeout_second=120)
    batches = {
        name: share(samples, rank, ranks) for name, samples in torch.load(batches_file, weights_only=False).items()
    }
    reference = build_engine(model, forward_only=True)
    result = {"reference": {name: log_probs(reference, data) for name, data in batches.items()}}
    actor = build_engine(model, forward_only=False, settings=json.loads(settings))
    result["engine"] = type(actor).__name__
    result["wrapped"] = sorted({type(m).__name__ for m in actor.module.modules() if hasattr(m, "unshard")})
    result["vision blocks cast their inputs"] = [
        m._get_fsdp_state()._mp_policy.cast_forward_inputs
        for m in actor.module.modules()
        if "VisionBlock" in type(m).__name__
    ]
    result["before"] = {name: log_probs(actor, data) for name, data in batches.items()}
    result["steps"] = {}
    for name, data in batches.items():
        with actor.train_mode():
            output = actor.train_batch(data.copy(), partial(sft_loss, config=None))
        loss = torch.tensor(output["loss"]).sum()
        torch.distributed.all_reduce(loss, op=torch.distributed.ReduceOp.AVG)
        result["steps"][name] = {"loss": loss.item(), "grad_norm": output["metrics"]["grad_norm"]}
    result["after"] = {name: log_probs(actor, data) for name, data in batches.items()}
    result["weights"] = {name: tensor.clone() for name, tensor in actor.get_per_tensor_param(base_sync_done=True)[0]}
    actor.save_checkpoint(str(Path(out) / "actor"))
    torch.save(result, Path(out) / f"rank{rank}.pt")
    torch.distributed.barrier()
    destroy_global_process_group()


if __name__ == "__main__":
    main()
