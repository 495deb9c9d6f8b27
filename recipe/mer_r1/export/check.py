"""Is an exported folder good? Every key is one of transformers' model, and vLLM and transformers agree on a clip."""

from __future__ import annotations

from pathlib import Path

from recipe.mer_r1.doctor.agreement import check_agreement
from recipe.mer_r1.doctor.outcome import Outcome, Subject, failed, ok
from recipe.mer_r1.run import launch


def check(folder: Path, preset: str) -> bool:
    """Print what each check saw; whether none failed and none was skipped."""
    subject = Subject(preset, str(folder))
    launch.prepare_environment(subject.preset.device, str(folder))
    outcomes = [check_keys(folder), check_agreement(subject)]
    for outcome in outcomes:
        print(f"{outcome.status}: {outcome.seen}" + (f" ({outcome.fix})" if outcome.fix else ""), flush=True)
    return all(outcome.status == "ok" for outcome in outcomes)


def check_keys(folder: Path) -> Outcome:
    """Load the Thinker in transformers; names of a talker's and token2wav's tensors are compared without loading."""
    import torch
    from safetensors import safe_open
    from transformers import AutoConfig, Qwen2_5OmniForConditionalGeneration
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration as Thinker

    _, report = Thinker.from_pretrained(folder, output_loading_info=True)
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        wanted = set(Qwen2_5OmniForConditionalGeneration(config).state_dict())
    there: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as tensors:
            there |= set(tensors.keys())
    faults = {
        "missing": sorted({*report["missing_keys"], *(wanted - there)}),
        "mismatched": sorted(map(str, report["mismatched_keys"])),
        "unexpected": sorted(there - wanted),
    }
    if any(faults.values()):
        named = "; ".join(f"{len(keys)} {kind}, such as {keys[0]}" for kind, keys in faults.items() if keys)
        return failed(f"transformers: {named}", "export again from a complete checkpoint")
    return ok(f"transformers: {len(there)} tensors, all as in the model")
