"""vLLM beside transformers on one made clip: placeholders of the prompt, and the log-probs of sampled tokens.

    python -m recipe.mer_r1.doctor.compare --model DIR --preset NAME --dtype float32

In float32 both sides must give the same numbers. In bfloat16 both sides round, and how much depends on the model. So
transformers runs twice, in bfloat16 and in float32 with the same rounded weights: the difference between these two is
the noise that vLLM's difference from float32 is measured against.

Prints one line of JSON as its last. A process of its own, because vLLM may crash or hang.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from recipe.mer_r1.doctor.agreement import EXACT
from recipe.mer_r1.doctor.clip import made_mp4, made_wav
from recipe.mer_r1.eval.generate import load_preset
from recipe.mer_r1.run import launch

if TYPE_CHECKING:
    import torch

    from recipe.mer_r1.eval.rollout import Trace
    from verl_ext.data.encode import EncodedPrompt

GREEDY_TOKENS = 16
# In low precision the mean needs some hundred tokens: a greedy answer and some sampled ones.
SAMPLED, TOKENS = 4, 64


def made_row(folder: Path, use_audio_in_video: bool) -> dict[str, Any]:
    """A shard's row with the made clip, written into ``folder``."""
    (folder / "made.mp4").write_bytes(made_mp4())
    (folder / "made.wav").write_bytes(made_wav())
    media = "<video>" if use_audio_in_video else "<video><audio>"
    return {
        "prompt": [{"role": "user", "content": f"{media}How does the person feel?"}],
        "videos": [str(folder / "made.mp4")],
        "audios": [] if use_audio_in_video else [str(folder / "made.wav")],
        "extra_info": {"name": "made"},
    }


def compare(model: str, preset: DictConfig) -> dict[str, Any]:
    """Both sides' placeholders, and how far their log-probs are apart, in ``preset.rollout.dtype``.

    Returns:
        ``transformers``, ``vllm``: placeholders of each kind. ``same_prompt``. ``dtype``. ``tokens``: how many were
        compared. ``gap``: of vLLM from transformers in float32, ``{"mean", "max"}`` in nats; None where the prompts
        already differ. ``noise``: of transformers in ``dtype`` from itself in float32; None where that is the dtype.
    """
    answers, encoded, processor = rollout_side(model, preset)
    dtype = preset.rollout.dtype
    found = {
        "transformers": placeholders(encoded.prompt_ids, processor),
        "vllm": placeholders(answers[0].prompt_ids, processor),
        "same_prompt": all(answer.prompt_ids == encoded.prompt_ids for answer in answers),
        "dtype": dtype,
        "tokens": sum(len(answer.token_ids) for answer in answers),
        "gap": None,
        "noise": None,
    }
    if found["same_prompt"]:
        exact, rounded = train_side(
            model, dtype, preset.device, processor, encoded, [answer.token_ids for answer in answers]
        )
        found["gap"] = distance([value for answer in answers for value in answer.log_probs], exact)
        found["noise"] = distance(rounded, exact) if rounded else None
    return found


def rollout_side(model: str, preset: DictConfig) -> tuple[list[Trace], EncodedPrompt, Any]:
    """vLLM's answers to the made clip, the clip's prompt as the actor gets it, and the bound processor."""
    from recipe.mer_r1.eval.rollout import Request, Rollout
    from verl_ext.data.dataset import build_messages

    exact = preset.rollout.dtype == EXACT
    temperatures = [0.0] if exact else [0.0, *[1.0] * SAMPLED]
    with tempfile.TemporaryDirectory() as folder:
        row = made_row(Path(folder), preset.media.use_audio_in_video)
        rollout = Rollout(model, preset, GREEDY_TOKENS if exact else TOKENS)
        answers = [
            rollout.trace(Request(row, "", temperature, preset.seed + number))
            for number, temperature in enumerate(temperatures)
        ]
        encoded = rollout.encoder(build_messages(row))
    rollout.llm.llm_engine.engine_core.shutdown()  # its memory is wanted now
    return answers, encoded, rollout.processor


def placeholders(ids: list[int], processor: Any) -> dict[str, int]:
    """How many video and audio placeholders a prompt has."""
    counts = Counter(ids)
    return {kind: counts[getattr(processor, f"{kind}_token_id")] for kind in ("video", "audio")}


def distance(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Mean and largest absolute difference; both are nan where one value is."""
    gaps = np.abs(np.subtract(ours, theirs))
    return {"mean": float(gaps.mean()), "max": float(gaps.max())}


def train_side(
    model: str, dtype: str, device: str, processor: Any, encoded: EncodedPrompt, responses: list[list[int]]
) -> tuple[list[float], list[float] | None]:
    """The responses' log-probs under the policy's Thinker, one after the other: in float32, and in ``dtype``.

    The weights of both are rounded to ``dtype``. None where ``dtype`` is float32.
    """
    import torch

    from verl_ext.models.model import Qwen2_5OmniThinkerPolicy

    # PyTorch's convolutions on a GPU use TF32 unless told not to.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    policy = Qwen2_5OmniThinkerPolicy.from_pretrained(
        model, dtype=getattr(torch, dtype), attn_implementation="sdpa"
    ).eval()
    policy.to(device)

    def score() -> list[float]:
        return [value for ids in responses for value in log_probs(policy.thinker, device, processor, encoded, ids)]

    rounded = None if dtype == EXACT else score()
    policy.float()
    return score(), rounded


def log_probs(
    thinker: torch.nn.Module, device: str, processor: Any, encoded: EncodedPrompt, response: list[int]
) -> list[float]:
    """One response's log-probs.

    The logits are read before media tokens are taken out: vLLM, too, reports log-probs from before its logit bias.
    """
    import torch

    from verl_ext.models.rope import position_ids

    ids = torch.tensor(encoded.prompt_ids + response)
    inputs = {
        "input_ids": ids[None],
        "attention_mask": torch.ones_like(ids)[None],
        "position_ids": position_ids(processor.rope, ids, encoded.inputs)[:, None],
        **encoded.inputs,
    }
    with torch.no_grad():
        logits = thinker(**{name: tensor.to(device) for name, tensor in inputs.items()}).logits
    found = logits[0, -len(response) - 1 : -1].float().log_softmax(-1).cpu()
    return found.gather(1, ids[-len(response) :, None])[:, 0].tolist()


def main(arguments: Sequence[str]) -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(prog="python -m recipe.mer_r1.doctor.compare")
    parser.add_argument("--model", required=True)
    parser.add_argument("--preset", required=True)
    parser.add_argument("--dtype", default=EXACT, help="of both sides (default: %(default)s)")
    options = parser.parse_args(arguments)
    # One device, no captured graphs: the numbers of the computation itself.
    changes = [f"rollout.dtype={options.dtype}", "rollout.tensor_parallel=1", "rollout.eager=true"]
    preset = load_preset(options.preset, changes)
    launch.prepare_environment(preset.device, options.model)
    print(json.dumps(compare(options.model, preset)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
