"""The tiny Thinker, taught a handful of responses by heart: its samples are mostly well formed and name emotions.

Plain transformers, text prompts alone: what is wanted is a policy whose answers have words, not one that is right.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from recipe.mer_r1.method.answer import slow_response
from verl_ext.models.model import Qwen2_5OmniThinkerPolicy


def make(model: Path, corpus: Path, out: Path) -> None:
    """Write the full-Omni folder ``out``: ``model``'s, with the weights of the taught policy."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    policy = Qwen2_5OmniThinkerPolicy.from_pretrained(model, dtype=torch.float32, attn_implementation="sdpa")
    rows = pq.read_table(corpus / "shards" / "sft.parquet").to_pylist()
    prompt = tokenizer.encode("<|im_start|>assistant\n")
    targets = [
        tokenizer.encode(slow_response("It shows.", row["reward_model"]["ground_truth"]) + "<|im_end|>") for row in rows
    ]
    ids = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(prompt + target) for target in targets], batch_first=True, padding_value=-1
    )
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3)
    for _ in range(60):
        inputs = ids.clamp(min=0)
        positions = torch.arange(ids.shape[1]).expand(4, *ids.shape)
        logits = policy(input_ids=inputs, attention_mask=(ids >= 0).long(), position_ids=positions).logits
        labels = torch.where(ids[:, 1:] >= 0, ids[:, 1:], -100)
        labels[:, : len(prompt) - 1] = -100
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    shutil.copytree(model, out)
    drawn = load_file(out / "model.safetensors")
    state = policy.state_dict()
    save_file({name: state[name].contiguous() for name in drawn}, out / "model.safetensors", metadata={"format": "pt"})
