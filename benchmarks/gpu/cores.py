"""The numeric cores on a device, in fp32 and bf16: set log-probs, packing, masks, positions, attention, advantage.

    benchmarks/gpu/run.sh cores

Needs torch and transformers only. Each case compares a core with a slower way that shares no code with it, and has a
limit. The cases `seen-…` plant a fault and pass when the limits of `pack-…` would have caught it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention.flex_attention import flex_attention

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository, where it is not installed

from cases import Case, Options, run_all, source_hash
from cores_thinker import Prompts, make_thinker, positions_by_hand

from recipe.mer_r1.method import advantage
from verl_ext.actor import flex
from verl_ext.actor.set_log_probs import TokenSets, set_log_probs
from verl_ext.actor.shared_prompt import Packed, find_groups, pack

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SOURCES = (
    "benchmarks/gpu/cores.py",
    "benchmarks/gpu/cores_thinker.py",
    "recipe/mer_r1/method/advantage.py",
    "verl_ext/actor/flex.py",
    "verl_ext/actor/set_log_probs.py",
    "verl_ext/actor/shared_prompt.py",
    "verl_ext/models/rope.py",
)
FP32_MAX, FP32_MEAN = 1e-4, 1e-5
"""Limits in nats, for what is computed in float32: the engine's own, and a tenth of it."""


def gaps(found: torch.Tensor, expected: torch.Tensor) -> dict[str, float]:
    """Largest and mean absolute difference; equal infinities differ by 0, and NaN stays NaN."""
    found, expected = found.double().cpu(), expected.double().cpu()
    gap = (found - expected).abs().masked_fill((found == expected) & found.isinf(), 0.0)
    return {"max": gap.max().item(), "mean": gap.mean().item()}


def judged(gap: dict[str, float], limit_max: float, limit_mean: float) -> dict[str, Any]:
    """Values of a case: gaps, limits and verdict. NaN fails."""
    passed = gap["max"] <= limit_max and gap["mean"] <= limit_mean
    return {**gap, "limit_max": limit_max, "limit_mean": limit_mean, "passed": passed}


def set_log_probs_case(device: str, dtype: torch.dtype, rows: int, vocabulary: int) -> dict[str, Any]:
    """Against float64 on the CPU, from the same logits; with shares, an empty set, and masses of e⁻³⁰⁰."""
    draw = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(rows, vocabulary, generator=draw)).to(dtype)
    logits[0, 1:] -= 300
    labels = torch.randint(vocabulary, (rows,), generator=draw)
    lists = [torch.randperm(vocabulary, generator=draw)[:60].tolist() for _ in range(31)] + [[]]
    shares = [torch.rand(len(tokens), generator=draw).clamp(min=0.1).tolist() for tokens in lists]
    found = set_log_probs(logits.to(device), labels.to(device), TokenSets.from_lists(lists, shares, device))
    exact = logits.double().log_softmax(-1)
    weights = [torch.tensor(part, dtype=torch.float32).log().double() for part in shares]
    columns = [(exact[:, ids] + log).logsumexp(-1) for ids, log in zip(lists, weights, strict=True)]
    expected = torch.stack([*columns, exact.gather(1, labels[:, None])[:, 0]], dim=1)
    return judged(gaps(found, expected), FP32_MAX, FP32_MEAN)


class Forwards:
    """The prompts' set log-probs by one forward and by two, in one precision."""

    def __init__(self, device: str, dtype: torch.dtype, small: bool):
        self.prompts = Prompts(small)
        self.device, self.dtype = device, dtype
        self.model = make_thinker(small).to(device, dtype).eval()
        draw = torch.Generator().manual_seed(2)
        lists = [torch.randperm(self.prompts.vocabulary, generator=draw)[:20].tolist() for _ in range(8)]
        self.sets = TokenSets.from_lists(lists, device=device)

    def _logits(self, inputs: dict[str, Any]) -> torch.Tensor:
        moved = {
            name: value.to(self.device, self.dtype) if value.is_floating_point() else value.to(self.device)
            for name, value in inputs.items()
        }
        with torch.inference_mode():
            return self.model(**moved, use_cache=False).logits

    def _set_log_probs(self, rows: list[torch.Tensor], continuations: list[torch.Tensor]) -> torch.Tensor:
        return set_log_probs(torch.cat(rows), torch.cat(continuations).to(rows[0].device), self.sets)

    def two(self) -> torch.Tensor:
        """Responses and branches in batches of their own, with the positions that transformers gives them."""
        found = []
        for continuations in (self.prompts.responses, self.prompts.branches):
            logits = self._logits(self.prompts.batch(continuations))
            lengths = zip(self.prompts.lengths, continuations, strict=True)
            rows = [
                logits[index, prompt - 1 : prompt + len(tokens) - 1] for index, (prompt, tokens) in enumerate(lengths)
            ]
            found.append(self._set_log_probs(rows, continuations))
        return torch.cat(found)

    def one(self, fault: str | None = None) -> torch.Tensor:
        """Every prompt once; `fault` plants an ignored mask or branch positions that are one off."""
        samples = self.prompts.samples
        packed, media = packed_rows(self.prompts)
        mask, positions = packed.attention_mask, packed.position_ids.clone()
        if fault == "mask":
            mask = torch.ones_like(mask).tril()
        elif fault == "position":
            for sample, start in zip(samples, packed.branch_starts, strict=True):
                positions.view(4, -1)[:, start : start + len(sample.branch)] += 1
        inputs = {"input_ids": packed.input_ids, "position_ids": positions, "attention_mask": mask, **media}
        logits = self._logits(inputs).flatten(0, 1)
        at = {"response": packed.before_response, "branch": packed.before_branch}
        found = []
        for kind, before in at.items():
            continuations = [getattr(sample, kind) for sample in samples]
            rows = [logits[before(index, torch.arange(len(ids)))] for index, ids in enumerate(continuations)]
            found.append(self._set_log_probs(rows, continuations))
        return torch.cat(found)


def packed_rows(prompts: Prompts, device: str | None = None) -> tuple[Packed, dict[str, torch.Tensor]]:
    """One row a prompt, and the media of the rows one after the other."""
    groups = find_groups(prompts.samples)
    media = [prompts.samples[group[0]].media for group in groups]
    names = next(of_row for of_row in media if of_row)
    tensors = {name: torch.cat([of_row[name] for of_row in media if of_row]) for name in names}
    return pack(prompts.samples, groups, device=device), tensors


def worst_part(found: torch.Tensor, expected: torch.Tensor, responses: int) -> dict[str, float]:
    """The larger gaps of responses (the first rows) and branches: a fault that is in one of them is not diluted."""
    parts = [gaps(found[:responses], expected[:responses]), gaps(found[responses:], expected[responses:])]
    # Not Python's max, which can lose NaN
    return {name: torch.tensor([part[name] for part in parts]).max().item() for name in parts[0]}


def pack_case(device: str, dtype: torch.dtype, small: bool, fault: str | None = None) -> dict[str, Any]:
    """One forward against two. The limits of bf16 come from its own noise: two forwards in bf16 against fp32.

    With a fault: passes if the gap is over a limit.
    """
    forwards = Forwards(device, dtype, small)
    two, responses = forwards.two(), sum(map(len, forwards.prompts.responses))
    limit_max, limit_mean, noise = FP32_MAX, FP32_MEAN, {}
    if dtype != torch.float32:
        noise = worst_part(two, Forwards(device, torch.float32, small).two(), responses)
        limit_max, limit_mean = 2 * noise["max"], 1.5 * noise["mean"]
    values = judged(worst_part(forwards.one(fault), two, responses), limit_max, limit_mean)
    if fault:
        values["passed"] = not values["passed"]
    return {**values, **{f"noise_{name}": value for name, value in noise.items()}}


def mask_case(device: str, small: bool) -> dict[str, Any]:
    """The block mask, entry by entry, against the rule in words."""
    prompts = Prompts(small)
    found = packed_rows(prompts, device)[0].attention_mask[:, 0].cpu()
    expected = found.clone()  # of padding, which no token sees, nothing is asked
    for row, group in enumerate(find_groups(prompts.samples)):
        members = [prompts.samples[index] for index in group]
        lengths = [len(member.response) for member in members] + [len(member.branch) for member in members]
        part = [0] * members[0].prompt_length  # 0: the prompt; 1, 2, …: the continuations
        for number, length in enumerate(lengths, start=1):
            part += [number] * length
        for query in range(len(part)):
            for key in range(found.shape[2]):
                expected[row, query, key] = key <= query and part[key] in (0, part[query])
    return judged(gaps(found.long(), expected.long()), 0.0, 0.0)


def position_case(device: str | None, small: bool) -> dict[str, Any]:
    """M-RoPE positions of each prompt against those made by hand: as the datasets make them, or on a device."""
    prompts = Prompts(small)
    found = []
    for prompt in prompts.kinds:
        if device is None:
            found.append(prompts.positions(prompt, prompt.ids)[1:])
        else:
            on_device = {name: value.to(device) for name, value in prompt.rope.items()}
            found.append(prompts.rope.get_rope_index(prompt.ids[None].to(device), **on_device)[0][:, 0].cpu())
    expected = [positions_by_hand(prompt) for prompt in prompts.kinds]
    return judged(gaps(torch.cat(found, -1), torch.cat(expected, -1)), 0.0, 0.0)


def seconds_of(call: Callable[[], Any], device: str) -> float:
    """Mean over ten calls after a first one; over one call on a CPU."""
    times = 1 if device == "cpu" else 10
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    for _ in range(times):
        call()
    wait()
    return (time.perf_counter() - start) / times


def attention_case(device: str, dtype: torch.dtype, small: bool, kernel: str) -> dict[str, Any]:
    """Attention under the block mask (sdpa or FlexAttention) against float64; relative to the values' size of 1.

    Also the time of one forward, without the mask's own.
    """
    prompts = Prompts(small)
    packed = packed_rows(prompts)[0]
    mask = packed.attention_mask
    rows, length = mask.shape[0], mask.shape[-1]
    draw = torch.Generator().manual_seed(3)
    query, key, value = (torch.randn(rows, 4, length, 64, generator=draw).to(dtype) for _ in range(3))
    scores = (query.double() @ key.double().mT / 8).masked_fill(~mask, -torch.inf)
    expected = scores.softmax(-1) @ value.double()
    query, key, value, mask = (tensor.to(device) for tensor in (query, key, value, mask))
    if device == "cpu":  # there it would take seconds to compile
        flex._compiled = lambda kind: flex_attention

    def attend() -> torch.Tensor:
        if kernel == "sdpa":
            return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return flex._attention(None, query, key, value, blocks)[0].transpose(1, 2)

    blocks = flex.block_mask(packed.parts.to(device)) if kernel == "flex" else None
    found = attend()
    milliseconds = 1000 * seconds_of(attend, device)
    limit = 1e-4 if dtype == torch.float32 else 2e-2
    return {**judged(gaps(found, expected), limit, limit / 10), "milliseconds": milliseconds}


def advantage_case(device: str, dtype: torch.dtype) -> dict[str, Any]:
    """Eq. 12 on signals that are on the device, against a loop over groups in float64; with NaN and constant groups."""
    draw = torch.Generator().manual_seed(4)
    group = torch.arange(64).repeat_interleave(4)[torch.randperm(256, generator=draw)]
    signals = {name: torch.rand(256, generator=draw).to(dtype) for name in ("recall", "precision", "r_minus")}
    signals["r_minus"][::3] = torch.nan
    signals["recall"][group == 5] = 0.5
    terms = [advantage.Term({name: 1.0}, weight) for name, weight in zip(signals, (1.0, 1.0, 0.1), strict=True)]
    moved = {name: values.to(device) for name, values in signals.items()}
    found = advantage.combine(moved, group.to(device), terms)[advantage.ADVANTAGE]
    expected = torch.zeros(256, dtype=torch.float64)
    for member in range(64):
        places = (group == member).nonzero()[:, 0]
        for term in terms:
            values = signals[term.name].double()[places]
            defined = ~values.isnan()
            if defined.sum() > 1 and values[defined].max() > values[defined].min():
                chosen = values[defined]
                expected[places[defined]] += term.weight * (chosen - chosen.mean()) / (chosen.std() + 1e-6)
    limit = 1e-6 if dtype == torch.float32 else 2.0**-7  # the result is rounded to the signals' precision
    return judged(gaps(found, expected), limit, limit)


def all_cases(options: Options) -> list[Case]:
    """In the order of their worth."""
    device, small = options.device, options.small
    settings = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "small": small,
        "source": source_hash(*SOURCES),
    }
    rows, vocabulary = (32, 4096) if small else (512, 151_936)
    plain = {
        "mask": partial(mask_case, device, small),
        "positions": partial(position_case, None, small),
        "positions-device": partial(position_case, device, small),
    }
    by_dtype: dict[str, Any] = {
        "set_log_probs": lambda dtype: set_log_probs_case(device, dtype, rows, vocabulary),
        "pack": lambda dtype: pack_case(device, dtype, small),
        "seen-mask": lambda dtype: pack_case(device, dtype, small, "mask"),
        "seen-position": lambda dtype: pack_case(device, dtype, small, "position"),
        "sdpa": lambda dtype: attention_case(device, dtype, small, "sdpa"),
        "flex": lambda dtype: attention_case(device, dtype, small, "flex"),
        "advantage": lambda dtype: advantage_case(device, dtype),
    }
    cases = [Case(name, settings, run, 10) for name, run in plain.items()]
    for name, run in by_dtype.items():
        for label, dtype in DTYPES.items():
            chosen = {**settings, "dtype": label, **({"rows": rows, "vocabulary": vocabulary} if "set" in name else {})}
            cases.append(Case(f"{name}-{label}", chosen, partial(run, dtype), 40 if name == "flex" else 15))
    return cases


def main() -> int:
    options = Options.read()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32 here
    return run_all("cores", all_cases(options), options)


if __name__ == "__main__":
    sys.exit(main())
