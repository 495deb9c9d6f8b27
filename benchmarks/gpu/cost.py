"""Cost at the shape of Qwen2.5-Omni's 3B and 7B text model: matmul rate, forwards, a training step, top kernels.

    benchmarks/gpu/run.sh cost

Needs torch and transformers only. Weights and tokens are random, in bf16 (fp32 on a CPU). The forwards are those of
benchmarks/calibration_forward.py. The floor of a time is its floating-point operations (verl_ext/models/flops.py)
divided by the matmul rate measured at the model's own shapes.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository, where it is not installed

import calibration_forward as forward
from cases import Case, Options, run_all, source_hash

from verl_ext.models.flops import text_forward

SOURCES = (
    "benchmarks/gpu/cost.py",
    "benchmarks/calibration_forward.py",
    "verl_ext/actor/set_log_probs.py",
    "verl_ext/actor/shared_prompt.py",
    "verl_ext/models/flops.py",
)
TOP_KERNELS = 12


def sizes(options: Options) -> list[dict[str, Any]]:
    """Shape, tokens of prompt, response and branch, responses per prompt, and rounds of each measurement."""
    if options.small:
        return [{"shape": "small", "prompt": 64, "response": 40, "branch": 8, "responses": 2, "rounds": 2}]
    rest = {"response": 300, "branch": 20, "responses": 4, "rounds": 5}
    return [{"shape": shape, "prompt": prompt, **rest} for shape in ("3b", "7b") for prompt in (1000, 4500)]


def median_seconds(run: Callable[[], Any], device: str, rounds: int) -> float:
    """Median over `rounds` after two runs that warm up."""
    times = []
    for round_ in range(rounds + 2):
        _wait(device)
        begin = time.perf_counter()
        run()
        _wait(device)
        if round_ >= 2:
            times.append(time.perf_counter() - begin)
    return statistics.median(times)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def products(shape: dict[str, int], tokens: int) -> dict[str, tuple[int, int, int, int]]:
    """The matrix products of a forward: rows, inner size, columns, and how often each is made."""
    width, layers = shape["hidden"], shape["layers"]
    keys = shape["kv_heads"] * width // shape["heads"]
    return {
        "q and o": (tokens, width, width, 2 * layers),
        "k and v": (tokens, width, keys, 2 * layers),
        "gate and up": (tokens, width, shape["mlp"], 2 * layers),
        "down": (tokens, shape["mlp"], width, layers),
        "head": (tokens, width, shape["vocabulary"], 1),
    }


def rate(flops: dict[str, float], seconds: dict[str, float]) -> float:
    """TFLOP/s of all products together."""
    return sum(flops.values()) / sum(seconds.values()) / 1e12


@cache
def matmul_case(device: str, shape: str, tokens: int, rounds: int) -> dict[str, Any]:
    """TFLOP/s of each product, and of all of a forward's products together; random data."""
    flops, seconds, each = {}, {}, {}
    for name, (rows, inner, columns, times) in products(forward.SHAPES[shape], tokens).items():
        left = torch.randn(rows, inner, device=device, dtype=_dtype(device))
        right = torch.randn(columns, inner, device=device, dtype=_dtype(device)).T
        once = median_seconds(
            partial(torch.matmul, left, right), device, max(rounds, 10) if device == "cuda" else rounds
        )
        flops[name], seconds[name] = 2.0 * rows * inner * columns * times, once * times
        each[name] = flops[name] / seconds[name] / 1e12
    return {"tflops": rate(flops, seconds), "tflops_by_product": each}


def _dtype(device: str) -> torch.dtype:
    return torch.bfloat16 if device == "cuda" else torch.float32


def _arguments(device: str, size: dict[str, Any]) -> argparse.Namespace:
    return argparse.Namespace(device=device, **size)


def _tokens(size: dict[str, Any]) -> int:
    return size["responses"] * (size["prompt"] + size["response"])


def model_flops(config: Any, case: forward.Case, prompt: int, branch: int) -> dict[str, float]:
    """Floating-point operations of each way, without padding."""
    responses = [prompt + len(response) for response in case.responses]
    alone, branches = text_forward(config, responses), text_forward(config, [prompt + branch] * len(responses))
    repeated = text_forward(config, [prompt]) * (2 * len(responses) - 1)  # the prompt is read once for all
    return {"log_probs": alone, "one": alone + branches - repeated, "two": alone + branches}


def floors(flops: dict[str, float], tflops: float) -> dict[str, float]:
    """Seconds that the operations take at the measured rate."""
    return {name: value / tflops / 1e12 for name, value in flops.items()}


def forward_case(device: str, size: dict[str, Any]) -> dict[str, Any]:
    """The three ways of calibration_forward.py in turn, in one process, with their floors."""
    found = forward.measure(_arguments(device, size))
    tflops = matmul_case(device, size["shape"], _tokens(size), size["rounds"])["tflops"]
    shape = forward.SHAPES[size["shape"]]
    case = forward.Case(_arguments("cpu", size), shape["vocabulary"])
    with torch.device("meta"):
        config = forward.make_model(shape, torch.bfloat16, "meta").config.text_config
    least = floors(model_flops(config, case, size["prompt"], size["branch"]), tflops)
    kept = {name: found[name] for name in ("median_seconds", "ratio", "peak_gb", "one_against_two_max_abs_diff")}
    return {
        **kept,
        "floor_seconds": least,
        "of_floor": {name: least[name] / seconds for name, seconds in found["median_seconds"].items()},
        "matmul_tflops": tflops,
    }


def train_case(device: str, size: dict[str, Any]) -> dict[str, Any]:
    """Forward and backward of the responses' log-probs, with gradient checkpointing; no optimiser.

    The floor counts three forwards: the backward pass costs two. Checkpointing adds one, which is not in the floor.
    """
    shape, arguments = forward.SHAPES[size["shape"]], _arguments(device, size)
    model = forward.make_model(shape, _dtype(device), device).train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    case = forward.Case(arguments, shape["vocabulary"])
    run = forward.ways(model, case)["log_probs"]

    def step() -> None:
        (-run().mean()).backward()
        model.zero_grad(set_to_none=True)

    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    seconds = median_seconds(step, device, max(2, size["rounds"] - 2))
    tflops = matmul_case(device, size["shape"], _tokens(size), size["rounds"])["tflops"]
    flops = {"train": 3 * model_flops(model.config.text_config, case, size["prompt"], size["branch"])["log_probs"]}
    least = floors(flops, tflops)
    return {
        "median_seconds": {"train": seconds},
        "floor_seconds": least,
        "of_floor": {"train": least["train"] / seconds},
        "peak_gb": {"train": torch.cuda.max_memory_allocated() / 1e9} if device == "cuda" else None,
        "matmul_tflops": tflops,
    }


def profile_case(device: str, size: dict[str, Any]) -> dict[str, Any]:
    """The kernels that take most of one forward for response and branch (`one`), by their own time on the device."""
    from torch.profiler import ProfilerActivity, profile

    shape = forward.SHAPES[size["shape"]]
    model = forward.make_model(shape, _dtype(device), device)
    run = forward.ways(model, forward.Case(_arguments(device, size), shape["vocabulary"]))["one"]
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
    with torch.inference_mode():
        run()
        _wait(device)
        with profile(activities=activities) as seen:
            run()
            _wait(device)
    column = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    events = [event for event in seen.key_averages() if getattr(event, column) > 0]
    if device == "cuda":  # not the operators, whose time is that of their kernels
        events = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
    total = sum(getattr(event, column) for event in events)
    if not events:
        return {"passed": False, "error": "the profiler saw no kernel"}
    events = sorted(events, key=lambda event: getattr(event, column), reverse=True)[:TOP_KERNELS]
    top = [
        {
            "kernel": event.key[:120],
            "ms": getattr(event, column) / 1e3,
            "share": getattr(event, column) / total,
            "calls": event.count,
        }
        for event in events
    ]
    return {"total_ms": total / 1e3, "top": top}


def all_cases(options: Options) -> list[Case]:
    """Forward, training and profile of each size, the smallest first."""
    device = options.device
    base = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "source": source_hash(*SOURCES),
    }
    cases = []
    for size in sizes(options):
        settings = {**base, **size}
        name = f"{size['shape']}-p{size['prompt']}"
        tokens, rounds = _tokens(size), size["rounds"]
        cases += [
            Case(f"matmul-{name}", settings, partial(matmul_case, device, size["shape"], tokens, rounds), 20),
            Case(f"forward-{name}", settings, partial(_freed, forward_case, device, size), 60),
            Case(f"train-{name}", settings, partial(_freed, train_case, device, size), 60),
            Case(f"profile-{name}", settings, partial(_freed, profile_case, device, size), 40),
        ]
    return cases


def _freed(run: Callable[..., dict[str, Any]], device: str, size: dict[str, Any]) -> dict[str, Any]:
    """Without the memory that an earlier case left."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    return run(device, size)


def main() -> int:
    options = Options.read()
    return run_all("cost", all_cases(options), options)


if __name__ == "__main__":
    sys.exit(main())
