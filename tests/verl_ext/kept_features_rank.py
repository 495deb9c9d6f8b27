"""Run by test_engine_kept_features.py, one process a rank: a step of the actor and the reference policy of one process.

    RANK=… WORLD_SIZE=… MASTER_ADDR=… MASTER_PORT=… python kept_features_rank.py MODEL CASES OUT SETTINGS

CASES is a torch file, as for shared_prompt_rank.py; each rank takes its part. SETTINGS is JSON: by name of the run the
fields of verl's HFModelConfig, micro_batch_size, tokens (of a micro-batch, in place of it), checks (the first batch has
its checks) and checkpoint (another checkpoint's towers are tried, too). Writes OUT/rankR.pt, by run and way (kept,
computed): what each pass gave, on how many patches and chunks of sound it ran the encoders each time, and how many
features were kept after it.
"""

import copy
import json
import os
import sys
from pathlib import Path

import torch
from fsdp_rank import build_engine
from shared_prompt_rank import Run


class Step(Run):
    """The passes of a step."""

    def __init__(self, model, samples, sets, settings, out):
        from verl_ext.actor.kept_features import STORE

        STORE.weights = set()  # a process has one actor
        override = settings.get("override", {})
        self.checkpoint = Path(out) / "checkpoint" if settings.pop("checkpoint", False) else None
        reference = {"override": override} if override else None
        self.reference = build_engine(model, forward_only=True, settings=reference)
        checks = settings.pop("checks", False)
        torch.manual_seed(0)  # adapters are drawn
        size, tokens = settings.pop("micro_batch_size"), settings.pop("tokens", None)
        super().__init__(model, samples, sets, size, engine=settings, tokens=tokens)
        self.times = 2 if checks else 1  # the first has the checks of the first batch
        if not checks:
            self.engine._compared = self.reference._compared = frozenset({False, True})
        self.read = {"vision": [], "audio": []}
        for module in (*self.reference.module.modules(), *self.engine.module.modules()):
            if type(module).__name__ == "Qwen2_5_VisionPatchEmbed":
                module.register_forward_pre_hook(lambda _, args: self.read["vision"].append(len(args[0])))
            elif type(module).__name__ == "Qwen2_5OmniAudioEncoder":
                module.conv1.register_forward_pre_hook(lambda _, args: self.read["audio"].append(len(args[0])))

    def infer(self, engine, sets=None):
        with engine.eval_mode():
            found = engine.infer_batch(self.batch(sets))["model_output"]
        return self._with_reads({name: list(values.unbind()) for name, values in found.items()})

    def _with_reads(self, found):
        from verl_ext.actor.kept_features import STORE

        reads = {name: list(values) for name, values in self.read.items()}
        for values in self.read.values():
            values.clear()
        return copy.deepcopy(found) | {"reads": reads, "kept": len(STORE), "bytes": STORE.size}

    def update(self):
        with self.engine.train_mode(), self.engine.train_mode():
            self.engine.optimizer_zero_grad()
            output = self.engine.forward_backward_batch(self.batch(None), self.loss_function)
            gradients = {
                name: parameter.grad.full_tensor()
                for name, parameter in self.engine.module.named_parameters()
                if parameter.grad is not None
            }
            found = self._with_reads({"losses": output["loss"], "gradients": gradients})
        return found | {"kept after": self._with_reads({})["kept"]}

    def __call__(self):
        from verl_ext.actor.kept_features import STORE

        for _ in range(self.times):
            found = {
                "reference": self.infer(self.reference),
                "old": self.infer(self.engine, self.sets),
                "update": self.update(),
            }
        if torch.distributed.get_world_size() > 1:
            found["reference of another rank's clips"] = self.infer(self.reference)
            if torch.distributed.get_rank() == 1:
                STORE.clear()
            found["one rank has none"] = self.update()
        found["reference again"] = self.infer(self.reference)
        self.samples = [sample | {"multi_modal_inputs": other(sample["multi_modal_inputs"])} for sample in self.samples]
        found["other media"] = self.update()
        if self.checkpoint:
            found |= self.with_other_towers()
        return found

    def with_other_towers(self):
        """The actor after it has loaded a checkpoint whose towers are others."""
        towers = [(n, p) for n, p in self.engine.module.named_parameters() if ".visual." in n or ".audio_tower." in n]
        for _, parameter in towers:
            parameter.data.mul_(1.5)
        self.engine.save_checkpoint(str(self.checkpoint))
        for _, parameter in towers:
            parameter.data.div_(1.5)
        self.infer(self.reference)
        self.engine.load_checkpoint(str(self.checkpoint), del_local_after_load=False)
        return {
            "reference, other towers": self.infer(self.reference),
            "old, other towers": self.infer(self.engine, self.sets),
            "update, other towers": self.update(),
        }


def other(media):
    """Media of the same shapes."""
    changed = {"pixel_values_videos": lambda values: values.flip(0), "input_features": lambda values: values * 0.5}
    return {name: changed.get(name, lambda values: values)(values) for name, values in media.items()}


def main() -> None:
    import verl  # noqa: F401  loads the plugin
    from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group_ray

    model, cases_file, out, settings = sys.argv[1:]
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    initialize_global_process_group_ray(timeout_second=120)
    cases = torch.load(cases_file, weights_only=False)
    samples = cases["samples"][len(cases["samples"]) * rank // ranks : len(cases["samples"]) * (rank + 1) // ranks]
    sets = {name: cases[name] for name in ("token_sets", "token_shares")}
    found = {}
    for name, values in json.loads(settings).items():
        off = {"override": {**values.get("override", {}), "kept_features_mib": 0}}
        ways = {"kept": values, "computed": values | off}
        found[name] = {way: Step(model, samples, sets, copy.deepcopy(ways[way]), out)() for way in ways}
    torch.save(found, Path(out) / f"rank{rank}.pt")
    torch.distributed.barrier()
    destroy_global_process_group()


if __name__ == "__main__":
    main()
