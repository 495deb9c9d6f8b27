"""Measure one forward for all responses of a prompt and their fast forms, against a forward row for each of them.

    python benchmarks/shared_prompt.py --json --small               a minute on two usual cores
    python benchmarks/shared_prompt.py --json                       P = 100, 1000, 4500 tokens and G = 4, 8 responses
    python benchmarks/shared_prompt.py --json --shape 3b            Qwen2.5-Omni-3B's Thinker, for a GPU

Needs only torch and transformers. Weights and tokens are random. Most of a prompt is one video. The log-prob pass
scores R tokens of each response and A tokens of its fast form, without gradients; the update scores the responses,
forward and backward. The ways run in turn in one process; the numbers are medians after a warm-up:

    naive       verl's way, and a second pass for the fast forms: each row encodes its own copy of the video, and has
                logits at every place
    two         two forwards, a row for each continuation: the video is encoded once, logits where they are needed
    packed      one forward (verl_ext.actor.shared_prompt)

The last line of the output is one JSON object. logprob_speedup and update_speedup are naive / packed at the longest
prompt with the fewest responses; max_abs_diff is over all log-probs of all cases, packed against naive.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from calibration_forward import SHAPES, SMALLEST_AUDIO, padded, text_config
from transformers import Qwen2_5OmniConfig

sys.path.insert(0, str(Path(__file__).parents[1]))  # the repository, where it is not installed

from verl_ext.actor.log_probs import log_probs_of_labels
from verl_ext.actor.shared_prompt import Sample, find_groups, pack
from verl_ext.models.model import Qwen2_5OmniThinkerPolicy

TOWERS = {"small": {"hidden_size": 256, "depth": 4, "num_heads": 4, "intermediate_size": 512}}
"""Of the vision encoder; the other shapes have the published one."""
WAYS = ("naive", "two", "packed")
VIDEO_TOKEN = 5
SIDE = 8  # patches; 16 tokens for two frames
SMALL = {"prompts": [100, 500], "groups": [4], "response": 60, "rounds": 1}


def make_policy(name: str, dtype: torch.dtype, device: str) -> Qwen2_5OmniThinkerPolicy:
    """A random Thinker of a shape; its sound encoder, which is not used, is as small as it gets."""
    shape = SHAPES[name]
    thinker = {
        "text_config": text_config(shape),
        "audio_config": SMALLEST_AUDIO,
        "vision_config": {"out_hidden_size": shape["hidden"], **TOWERS.get(name, {})},
        "video_token_index": VIDEO_TOKEN,
    }
    if name == "small":
        thinker["vision_config"]["fullatt_block_indexes"] = [3]
        for index, token in enumerate(("audio_token_index", "image_token_index")):
            thinker[token] = VIDEO_TOKEN + 1 + index
        for index, token in enumerate(("audio_start", "audio_end", "vision_start", "vision_end")):
            thinker[f"{token}_token_id"] = VIDEO_TOKEN + 3 + index
    config = Qwen2_5OmniConfig(thinker_config=thinker, talker_config={"vocab_size": 200_000}, enable_audio_output=False)
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    with torch.device(device):
        return Qwen2_5OmniThinkerPolicy(config).to(dtype).eval()


class Case:
    """One micro-batch: G responses of unequal lengths to one prompt with a video, each with a fast form."""

    def __init__(self, policy: Qwen2_5OmniThinkerPolicy, prompt: int, response: int, branch: int, group: int):
        self.policy, self.device = policy, policy.device
        vision = policy.config.thinker_config.vision_config
        vocabulary = policy.config.thinker_config.text_config.vocab_size
        draw = torch.Generator().manual_seed(1)

        def tokens(size: int) -> torch.Tensor:
            return torch.randint(100, vocabulary, (size,), generator=draw)

        steps = int(prompt * 0.9) // (SIDE * SIDE // vision.spatial_merge_size**2)
        video = torch.full((steps * SIDE * SIDE // vision.spatial_merge_size**2,), VIDEO_TOKEN)
        text = tokens(prompt - len(video))
        self.prompt = torch.cat([text[:5], video, text[5:]])
        self.responses = [tokens(response - 7 * index) for index in range(group)]
        self.branches = [tokens(branch) for _ in range(group)]
        patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        pixels = torch.randn(steps * SIDE * SIDE, patch, generator=draw)
        self.pixels = pixels.to(self.device, policy.dtype)
        self.grid = torch.tensor([[steps, SIDE, SIDE]], device=self.device)

    def log_probs(self, way: str, branches: bool) -> torch.Tensor:
        """``(Σ r + Σ a,)`` or ``(Σ r,)``: of the responses, then of the branches."""
        parts = [self.responses, self.branches] if branches else [self.responses]
        if way == "packed":
            return self._packed(branches)
        return torch.cat([(self._naive if way == "naive" else self._reusing)(part) for part in parts])

    def tokens(self, way: str, branches: bool) -> int:
        """Through the text model, without padding."""
        parts = [*self.responses, *(self.branches if branches else [])]
        return sum(map(len, parts)) + len(self.prompt) * (1 if way == "packed" else len(parts))

    def _rows(self, continuations: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        rows = padded([torch.cat([self.prompt, tokens]) for tokens in continuations], self.device)
        if rows["attention_mask"].all():
            rows["attention_mask"] = None
        return rows

    def _places(self, continuations: Sequence[torch.Tensor], length: int) -> torch.Tensor:
        """Flat places of the logits that predict the continuations."""
        first = len(self.prompt) - 1
        return torch.cat(
            [row * length + first + torch.arange(len(tokens)) for row, tokens in enumerate(continuations)]
        ).to(self.device)

    def _scores(self, logits_NV: torch.Tensor, continuations: Sequence[torch.Tensor]) -> torch.Tensor:
        return log_probs_of_labels(logits_NV, torch.cat(list(continuations)).to(self.device))

    def _naive(self, continuations: Sequence[torch.Tensor]) -> torch.Tensor:
        rows, copies = self._rows(continuations), len(continuations)
        logits = self.policy(
            **rows,
            pixel_values_videos=self.pixels.repeat(copies, 1),
            video_grid_thw=self.grid.repeat(copies, 1),
            use_cache=False,
        ).logits
        labels = rows["input_ids"].roll(-1, dims=1)
        scores = log_probs_of_labels(logits, labels)
        return scores.flatten()[self._places(continuations, labels.shape[1])]

    def _reusing(self, continuations: Sequence[torch.Tensor]) -> torch.Tensor:
        rows, thinker = self._rows(continuations), self.policy.thinker
        if not torch.is_grad_enabled() and continuations is self.branches:
            features = self._features
        else:
            features = self._features = thinker.get_video_features(
                self.pixels, self.grid, return_dict=True
            ).pooler_output
        embeds = thinker.get_input_embeddings()(rows["input_ids"])
        video = (rows["input_ids"] == VIDEO_TOKEN)[..., None].expand_as(embeds)
        embeds = embeds.masked_scatter(video, features.repeat(len(continuations), 1).to(embeds.dtype))
        logits = self.policy(
            **rows,
            inputs_embeds=embeds,
            logits_at=self._places(continuations, embeds.shape[1]),
            use_cache=False,
        ).logits
        return self._scores(logits, continuations)

    def _packed(self, branches: bool) -> torch.Tensor:
        positions = torch.arange(len(self.prompt) + max(map(len, self.responses))).expand(4, -1)
        samples = [
            Sample(
                torch.cat([self.prompt, response]),
                positions[:, : len(self.prompt) + len(response)],
                len(self.prompt),
                branch if branches else None,
            )
            for response, branch in zip(self.responses, self.branches, strict=True)
        ]
        packed = pack(samples, find_groups(samples), device=self.device)
        wanted = [packed.before_response(row, torch.arange(len(part))) for row, part in enumerate(self.responses)]
        if branches:
            wanted += [packed.before_branch(row, torch.arange(len(part))) for row, part in enumerate(self.branches)]
        logits = self.policy(
            input_ids=packed.input_ids,
            attention_mask=packed.attention_mask,
            position_ids=packed.position_ids,
            logits_at=torch.cat(wanted).to(self.device),
            pixel_values_videos=self.pixels,
            video_grid_thw=self.grid,
            use_cache=False,
        ).logits
        return self._scores(logits, [*self.responses, *(self.branches if branches else [])])


class Peak:
    """Peak memory of a block, in GB: of the device's allocator, or what the process got to hold more on a CPU."""

    def __init__(self, device: str):
        self.cuda, self.gb = device == "cuda", 0.0

    def __enter__(self) -> Peak:
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            return self
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what an earlier way freed must not hide what this one needs
        self._over, self._before, self._most = threading.Event(), _resident(), 0
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._over.wait(0.005):
            self._most = max(self._most, _resident())

    def __exit__(self, *_: object) -> None:
        if self.cuda:
            torch.cuda.synchronize()
            self.gb = torch.cuda.max_memory_allocated() / 1e9
            return
        self._over.set()
        self._thread.join()
        self.gb = max(0, self._most - self._before) / 1e9


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def passes(case: Case) -> dict[str, Callable[[str], torch.Tensor]]:
    """Both passes, by the way in which they run."""

    def logprob(way: str) -> torch.Tensor:
        with torch.no_grad():
            return case.log_probs(way, branches=True)

    def update(way: str) -> torch.Tensor:
        scores = case.log_probs(way, branches=False)
        (scores * torch.linspace(-1, 1, len(scores), device=scores.device)).sum().backward()
        case.policy.zero_grad()
        return scores.detach()

    return {"logprob": logprob, "update": update}


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """By pass and way: median seconds, tokens, peak memory; and how far packed is from naive."""
    found: dict[str, Any] = {"max_abs_diff": 0.0}
    for name, run in passes(case).items():
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        peak, results = dict.fromkeys(WAYS, 0.0), {}
        for round_ in range(rounds + 1):
            for way in WAYS:
                with Peak(case.device.type) as memory:
                    begin = time.perf_counter()
                    results[way] = run(way)
                    if memory.cuda:
                        torch.cuda.synchronize()
                    if round_:  # the first is the warm-up
                        seconds[way].append(time.perf_counter() - begin)
                peak[way] = max(peak[way], memory.gb)
        medians = {way: statistics.median(values) for way, values in seconds.items()}
        found[name] = {
            "median_seconds": medians,
            "speedup": {way: medians["naive"] / medians[way] for way in WAYS},
            "tokens": {way: case.tokens(way, name == "logprob") for way in WAYS},
            "peak_gb": peak,
        }
        gap = (results["packed"] - results["naive"]).abs().max().item()
        found["max_abs_diff"] = max(found["max_abs_diff"], gap)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print only JSON, one object a line")
    parser.add_argument("--small", action="store_true", help=f"{SMALL}")
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--prompts", type=int, nargs="+", default=[100, 1000, 4500], help="tokens of the prompt, P")
    parser.add_argument("--groups", type=int, nargs="+", default=[4, 8], help="responses per prompt, G")
    parser.add_argument("--response", type=int, default=300, help="tokens of the longest response, R")
    parser.add_argument("--branch", type=int, default=20, help="tokens of a fast form, A")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    if arguments.small:
        vars(arguments).update(SMALL)
    dtype = torch.bfloat16 if arguments.device == "cuda" else torch.float32
    policy = make_policy(arguments.shape, dtype, arguments.device)
    cases = []
    for prompt in arguments.prompts:
        for group in arguments.groups:
            case = Case(policy, prompt, arguments.response, arguments.branch, group)
            cases.append({"prompt": prompt, "group": group, **measure(case, arguments.rounds)})
            if not arguments.json:
                report = (f"{name} {cases[-1][name]['speedup']['packed']:.2f}×" for name in ("logprob", "update"))
                print(f"P={prompt} G={group}: {', '.join(report)}", flush=True)
    chosen = next(
        case for case in cases if (case["prompt"], case["group"]) == (max(arguments.prompts), min(arguments.groups))
    )
    result = {
        "logprob_speedup": chosen["logprob"]["speedup"]["packed"],
        "update_speedup": chosen["update"]["speedup"]["packed"],
        "max_abs_diff": max(case["max_abs_diff"] for case in cases),
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "dtype": str(dtype),
        **{name: getattr(arguments, name) for name in ("shape", "response", "branch", "rounds")},
        "cases": cases,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
