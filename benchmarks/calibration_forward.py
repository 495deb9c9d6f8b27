"""Measure the cost of the fast pass in the log-prob forward: one forward for response and branch, or two forwards.

    python benchmarks/calibration_forward.py --json                           a small text model, on a GPU or a CPU
    python benchmarks/calibration_forward.py --json --shape 3b --prompt 4500  Qwen2.5-Omni-3B's text model, for a GPU

Needs only torch and transformers. Weights and tokens are random. Prompts are text, so the numbers do not contain the
towers, which one forward also saves. The ways run in turn in one process; the numbers are medians after a warm-up:

    log_probs   prompt + response, log-probs of the response: as in a step without calibration
    one         the same with all branches, in one row with the prompt once (verl_ext.actor.shared_prompt)
    two         the same with a second forward for prompt + branch
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration

sys.path.insert(0, str(Path(__file__).parents[1]))  # the repository, where it is not installed

from verl_ext.actor.set_log_probs import TokenSets, set_log_probs
from verl_ext.actor.shared_prompt import Sample, find_groups, pack

# Published text configurations of Qwen2.5-Omni's Thinker; `small` is for a CPU.
SHAPES = {
    "small": {"hidden": 512, "layers": 4, "heads": 8, "kv_heads": 2, "mlp": 2048, "vocabulary": 32_000},
    "3b": {"hidden": 2048, "layers": 36, "heads": 16, "kv_heads": 2, "mlp": 11_008, "vocabulary": 151_936},
    "7b": {"hidden": 3584, "layers": 28, "heads": 28, "kv_heads": 4, "mlp": 18_944, "vocabulary": 152_064},
}
SMALLEST_AUDIO = {"d_model": 32, "encoder_layers": 1, "encoder_attention_heads": 1, "encoder_ffn_dim": 32}
SETS, TOKENS_A_SET = 31, 60  # the five wheels' level-1 categories, and about what Qwen's vocabulary has for each
WORDS = 3


def text_config(shape: dict[str, int]) -> dict[str, Any]:
    """The text model of a shape, in transformers' words."""
    head = shape["hidden"] // shape["heads"]
    height = head * 3 // 16
    return {
        "hidden_size": shape["hidden"],
        "num_hidden_layers": shape["layers"],
        "num_attention_heads": shape["heads"],
        "num_key_value_heads": shape["kv_heads"],
        "intermediate_size": shape["mlp"],
        "vocab_size": shape["vocabulary"],
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [head // 2 - 2 * height, height, height],
        },
    }


def make_model(shape: dict[str, int], dtype: torch.dtype, device: str) -> Any:
    """A random text model of a shape, its towers as small as they get."""
    config = Qwen2_5OmniThinkerConfig(
        text_config=text_config(shape),
        audio_config=SMALLEST_AUDIO,
        vision_config={"hidden_size": 32, "depth": 1, "num_heads": 1, "intermediate_size": 32},
    )
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    with torch.device(device):
        return Qwen2_5OmniThinkerForConditionalGeneration(config).to(dtype).eval()


class Case:
    """One micro-batch: G responses of unequal lengths to one prompt, each with a branch."""

    def __init__(self, arguments: argparse.Namespace, vocabulary: int):
        draw = torch.Generator().manual_seed(1)
        prompt = torch.randint(vocabulary, (arguments.prompt,), generator=draw)
        lengths = [arguments.response - 7 * index for index in range(arguments.responses)]
        self.responses = [torch.randint(vocabulary, (length,), generator=draw) for length in lengths]
        self.branches = [torch.randint(vocabulary, (arguments.branch,), generator=draw) for _ in lengths]
        positions = torch.arange(arguments.prompt + max(lengths)).expand(4, -1)
        samples = [
            Sample(torch.cat([prompt, tokens]), positions[:, : len(prompt) + len(tokens)], len(prompt), of_branch)
            for tokens, of_branch in zip(self.responses, self.branches, strict=True)
        ]
        self.packed = pack(samples, find_groups(samples), device=arguments.device)
        self.slow = padded([torch.cat([prompt, response]) for response in self.responses], arguments.device)
        self.fast = padded([torch.cat([prompt, tokens]) for tokens in self.branches], arguments.device)
        sets = [torch.randperm(vocabulary, generator=draw)[:TOKENS_A_SET].tolist() for _ in range(SETS)]
        self.sets = TokenSets.from_lists(sets, device=arguments.device)
        self.prompt = arguments.prompt
        self.places = torch.arange(arguments.branch - WORDS, arguments.branch, device=arguments.device)

    def masses(
        self,
        logits: torch.Tensor,
        continuations: list[torch.Tensor],
        before: Callable[[int, torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Set log-probs of the last words, one block of rows a response; ``before`` finds them in packed rows."""
        rows, labels = [], []
        for index, tokens in enumerate(continuations):
            places = self.places - self.places[-1] + len(tokens) - 1
            if before is None:
                rows.append(logits[index, self.prompt + places - 1])
            else:
                rows.append(logits.flatten(0, 1)[before(index, places)])
            labels.append(tokens.to(logits.device)[places])
        return set_log_probs(torch.cat(rows), torch.cat(labels), self.sets)


def padded(rows: list[torch.Tensor], device: str) -> dict[str, torch.Tensor]:
    """Model inputs of sequences, padded on the right, with four position channels as verl gives them."""
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    place = torch.arange(ids.shape[1], device=device)
    mask = (place < lengths[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask, "position_ids": place.expand(4, *ids.shape)}


def ways(model: Any, case: Case) -> dict[str, Callable[[], Any]]:
    """The three ways; each ends with what the trainer would read."""

    def log_probs(logits: torch.Tensor) -> torch.Tensor:
        found = []
        for index, response in enumerate(case.responses):
            rows = logits[index, case.prompt - 1 : case.prompt + len(response) - 1].float()
            found.append(rows.log_softmax(-1).gather(1, response.to(rows.device)[:, None]))
        return torch.cat(found)

    def alone() -> Any:
        return log_probs(model(**case.slow, use_cache=False).logits)

    def one() -> Any:
        packed = case.packed
        logits = model(
            input_ids=packed.input_ids,
            attention_mask=packed.attention_mask,
            position_ids=packed.position_ids,
            use_cache=False,
        ).logits
        found = []
        for index, response in enumerate(case.responses):
            places = torch.arange(len(response), device=logits.device)
            rows = logits.flatten(0, 1)[packed.before_response(index, places)].float()
            found.append(rows.log_softmax(-1).gather(1, response.to(rows.device)[:, None]))
        slow = case.masses(logits, case.responses, packed.before_response)
        return torch.cat(found), slow, case.masses(logits, case.branches, packed.before_branch)

    def two() -> Any:
        logits = model(**case.slow, use_cache=False).logits
        found = log_probs(logits), case.masses(logits, case.responses)
        return *found, case.masses(model(**case.fast, use_cache=False).logits, case.branches)

    return {"log_probs": alone, "one": one, "two": two}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Median seconds of each way, their ratios to the first, peak memory, and how far `one` is from `two`."""
    dtype = torch.bfloat16 if arguments.device == "cuda" else torch.float32
    shape = SHAPES[arguments.shape]
    model, case = make_model(shape, dtype, arguments.device), None
    case = Case(arguments, shape["vocabulary"])
    runs = ways(model, case)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    peak = dict.fromkeys(runs, 0.0)
    results = {}
    with torch.inference_mode():
        for round_ in range(arguments.rounds + 1):
            for name, run in runs.items():
                if arguments.device == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                    torch.cuda.synchronize()
                begin = time.perf_counter()
                results[name] = run()
                if arguments.device == "cuda":
                    torch.cuda.synchronize()
                    peak[name] = torch.cuda.max_memory_allocated() / 1e9
                if round_:  # the first is the warm-up
                    seconds[name].append(time.perf_counter() - begin)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    gap = max((one - two).abs().max().item() for one, two in zip(results["one"][1:], results["two"][1:], strict=True))
    return {
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu",
        "dtype": str(dtype),
        **{name: getattr(arguments, name) for name in ("shape", "prompt", "response", "branch", "responses", "rounds")},
        "median_seconds": medians,
        "ratio": {name: value / medians["log_probs"] for name, value in medians.items()},
        "peak_gb": peak if arguments.device == "cuda" else None,
        "one_against_two_max_abs_diff": gap,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print only JSON")
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prompt (default 512)")
    parser.add_argument("--response", type=int, default=150, help="tokens of the longest response (default 150)")
    parser.add_argument(
        "--branch", type=int, default=20, help="tokens of the empty thought and the answer (default 20)"
    )
    parser.add_argument("--responses", type=int, default=4, help="responses per prompt, G (default 4)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    result = measure(arguments := parser.parse_args())
    if arguments.json:
        print(json.dumps(result, indent=1))
    else:
        for name, value in result["median_seconds"].items():
            print(f"{name:<10} {value:.3f} s  {result['ratio'][name]:.2f}×")


if __name__ == "__main__":
    main()
