"""A policy that answers (the tiny Thinker, taught a handful of responses by heart); a check that nothing stays."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator

import pytest
from rl_runs import SHARED_MEMORY, children, reap, rings

from recipe.mer_r1.demo import process

LONGEST = ("test_resume.py", "test_slurm.py", "test_rl_run.py")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the files that two processes share out, the longest first: none is left alone at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture
def nothing_stays() -> Iterator[Callable[..., None]]:
    """A check that all processes and rings which came since the test began are gone; it waits some seconds for them."""
    process.adopt_orphans()
    processes, rings_before = children(), rings()

    def check(killed: bool = False, seconds: float = 90) -> None:
        """Where vLLM was killed, which cannot take its rings away then, they are removed; other tests wait for that."""
        deadline = time.monotonic() + seconds
        while True:
            reap()  # a Ray worker ends when its raylet is gone, and an adopted raylet stays as a zombie
            left = rings() - rings_before
            while killed and left:
                (SHARED_MEMORY / left.pop()).unlink(missing_ok=True)
            if not (children() - processes or left) or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        assert {child.pid: child.cmdline() for child in children() - processes} == {}
        assert left == set()

    yield check
    for child in children() - processes:  # not into the next test
        child.kill()


@pytest.fixture(scope="session")
def answering_model(micro_corpus, tiny_model, tmp_path_factory):
    """A full-Omni folder whose sampled responses are mostly well formed and name several emotions.

    Plain transformers, text prompts alone: what is wanted is a policy whose answers have words, not one that is right.
    """
    import pyarrow.parquet as pq
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    from recipe.mer_r1.method.answer import slow_response
    from verl_ext.models.model import Qwen2_5OmniThinkerPolicy

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    policy = Qwen2_5OmniThinkerPolicy.from_pretrained(tiny_model, dtype=torch.float32, attn_implementation="sdpa")
    rows = pq.read_table(micro_corpus / "shards" / "sft.parquet").to_pylist()
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
    out = tmp_path_factory.mktemp("answering") / "model"
    shutil.copytree(tiny_model, out)
    drawn = load_file(out / "model.safetensors")
    state = policy.state_dict()
    save_file({name: state[name].contiguous() for name in drawn}, out / "model.safetensors", metadata={"format": "pt"})
    return out
