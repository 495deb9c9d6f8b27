"""Run by test_engine_shared_prompt.py, one process a rank: one forward a group against plain ones, in verl's engine.

    RANK=… WORLD_SIZE=… MASTER_ADDR=… MASTER_PORT=… python shared_prompt_rank.py MODEL CASES OUT SETTINGS

CASES is a torch file, as for set_log_probs_rank.py, with a uid and advantages a sample; each rank takes its part.
SETTINGS is JSON, by name of the run: micro_batch_size; tokens, of a micro-batch that shares prompts, in place of it,
and the loss is verl's own then; chunk, logits that the head scores at a time; fault, one to plant; engine, fields of
verl's HFModelConfig.
Writes OUT/rankR.pt, by run and way (packed, plain; with tokens also "kept", "kept, too many" and "kept, other clips"):
the outputs of the log-prob pass, and all gradients of an update.
"""

import json
import os
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from fsdp_rank import build_engine
from set_log_probs_rank import batch_of


def loss_function(model_output, data, dp_group=None):
    """Every token's log-prob and entropy counts with a weight of its own."""
    from verl.workers.utils.padding import response_from_nested

    weights = data["advantages"]
    log_probs, entropy = (response_from_nested(model_output[name], weights) for name in ("log_probs", "entropy"))
    return (log_probs.values() * weights.values() + 0.1 * entropy.values()).sum(), {}


def with_other_uids(samples):
    """The same tokens, of other prompts."""
    return [sample | {"uid": f"not {sample['uid']}"} for sample in samples]


def verls_loss():
    """Eq. 3 as conf/ppo.yaml sets it, with an entropy bonus."""
    from verl.workers.config import ActorConfig
    from verl.workers.utils.losses import ppo_loss

    config = ActorConfig(
        strategy="fsdp2",
        rollout_n=4,
        ppo_micro_batch_size_per_gpu=1,
        loss_agg_mode="seq-mean-token-mean",
        use_kl_loss=True,
        kl_loss_coef=0.5,
        entropy_coeff=0.1,
    )
    return partial(ppo_loss, config)


@contextmanager
def planted(engine, fault: str | None):
    """Make the engine's one forward wrong in one way that raises no error."""
    from verl_ext.actor.micro_batch import PackedBatch

    right = PackedBatch.inputs

    def inputs(packed, flex=False):
        found = right(packed, flex)
        mask, positions = found["attention_mask"], found["position_ids"]
        if fault == "causal mask":
            found["attention_mask"] = torch.ones_like(mask).tril()
        elif fault == "2-D mask":
            found["attention_mask"] = torch.ones_like(found["input_ids"])
        elif fault == "no mask":
            found["attention_mask"] = None
        elif fault == "2-D positions":
            found["position_ids"] = positions[0]
        elif fault == "positions run on":
            found["position_ids"] = torch.arange(positions.shape[-1]).expand_as(positions).clone()
        elif fault == "eager attention":
            for module in engine.module.modules():
                if type(module).__name__ == "Qwen2_5OmniAttention":
                    module.config._attn_implementation = "eager"
        elif fault == "the next row":
            found["scores_at"] = (found["scores_at"] + 1).clamp(max=found["input_ids"].numel() - 1)
        elif fault == "media of another prompt":
            found["pixel_values_videos"] = found["pixel_values_videos"].flip(0)
        return found

    PackedBatch.inputs = inputs
    yield
    PackedBatch.inputs = right
    for module in engine.module.modules():
        if type(module).__name__ == "Qwen2_5OmniAttention":
            module.config._attn_implementation = "sdpa"


class Run:
    """One engine on this rank's samples."""

    def __init__(self, model, samples, sets, micro_batch_size, engine=None, fault=None, chunk=2**27, tokens=None):
        from verl_ext.models import head

        head.CHUNK_ELEMENTS = chunk
        self.tokens, self.loss_function = tokens, verls_loss() if tokens else loss_function
        self.samples, self.sets, self.size, self.fault = samples, sets, micro_batch_size, fault
        self.engine = build_engine(model, forward_only=False, settings=engine)
        if engine and "lora_rank" in engine:
            # Adapters start as nothing: only the second factor would have a gradient.
            for index, (name, parameter) in enumerate(self.engine.module.named_parameters()):
                if "lora_B" in name:
                    parameter.data.to_local().normal_(0, 0.05, generator=torch.Generator().manual_seed(index))
        self.rows, self.videos = [], []
        self.engine.module.register_forward_pre_hook(self._count, with_kwargs=True)
        visual = next(module.visual for module in self.engine.module.modules() if hasattr(module, "visual"))
        visual.register_forward_pre_hook(
            lambda _, args, kwargs: self.videos.append(len(kwargs["grid_thw"])), with_kwargs=True
        )

    def _count(self, _, args, kwargs):
        self.rows.append(tuple(kwargs["input_ids"].shape))

    def __call__(self):
        with planted(self.engine, self.fault):
            found = {"packed": self.both_passes()}
        found |= {"differs": self.engine._differs, "compared": set(self.engine._compared)}
        if not self.fault:
            found["packed again"] = self.both_passes()
        if self.tokens and not self.fault:
            found["kept"] = self.both_passes(keep=99, other=reversed)
            found["kept, too many"] = self.both_passes(keep=1)
            found["kept, other clips"] = self.both_passes(keep=99, other=with_other_uids)
        self.engine._can_share_prompts = lambda micro_batch: False
        if self.tokens:
            found["plain, by tokens"] = self.both_passes()
            self.tokens = None
        return found | {"plain": self.both_passes()}

    def batch(self, sets):
        from verl.utils import tensordict_utils as tu

        made = batch_of(self.samples, sets, self.size)
        made["advantages"] = torch.nested.as_nested_tensor(
            [sample["advantages"] for sample in self.samples], layout=torch.jagged
        )
        tu.assign_non_tensor(made, uid=[sample["uid"] for sample in self.samples])
        for name in ("prompts", "response_mask", "old_log_probs", "ref_log_prob"):
            made[name] = torch.nested.as_nested_tensor([sample[name] for sample in self.samples], layout=torch.jagged)
        tu.assign_non_tensor(made, global_batch_size=len(self.samples) * torch.distributed.get_world_size())
        if self.tokens:
            tu.assign_non_tensor(made, use_dynamic_bsz=True, max_token_len_per_gpu=self.tokens)
        return made

    def both_passes(self, keep=0, other=None):
        """Outputs of the log-prob pass, gradients of the update; shapes of all forwards, and videos that were read.

        ``keep``: micro-batches of the pass whose forward the update may use again; ``other``: makes its samples.
        """
        from verl.utils import tensordict_utils as tu

        self.rows.clear(), self.videos.clear()
        with self.engine.eval_mode():
            batch = self.batch(self.sets)
            if keep:
                tu.assign_non_tensor(batch, keep_forwards=keep)
            found = self.engine.infer_batch(batch)["model_output"]
        assert not self.engine.module.training or not keep
        found = {name: [row.clone() for row in values.unbind()] for name, values in found.items()}
        samples = self.samples
        if other:
            self.samples = list(other(samples))
        with self.engine.train_mode():
            self.engine.optimizer_zero_grad()
            output = self.engine.forward_backward_batch(self.batch(None), self.loss_function)
            found["losses"] = output["loss"]
            found["metrics"] = {
                name: metric.aggregate() for name, metric in output["metrics"].items() if "loss" in name
            }
            found["gradients"] = {
                name: parameter.grad.full_tensor().clone()
                for name, parameter in self.engine.module.named_parameters()
                if parameter.grad is not None
            }
        self.samples = samples
        assert self.engine._forwards is None
        return found | {"forwards": list(self.rows), "videos": sum(self.videos)}


def main() -> None:
    import verl  # noqa: F401  loads the plugin
    from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group_ray

    model, cases_file, out, settings = sys.argv[1:]
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    initialize_global_process_group_ray(timeout_second=120)
    cases = torch.load(cases_file, weights_only=False)
    samples = cases["samples"][len(cases["samples"]) * rank // ranks : len(cases["samples"]) * (rank + 1) // ranks]
    sets = {name: cases[name] for name in ("token_sets", "token_shares")}
    found = {name: Run(model, samples, sets, **values)() for name, values in json.loads(settings).items()}
    torch.save(found, Path(out) / f"rank{rank}.pt")
    torch.distributed.barrier()
    destroy_global_process_group()


if __name__ == "__main__":
    main()
