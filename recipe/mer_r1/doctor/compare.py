"""vLLM beside transformers on one made clip: placeholders of the prompt, log-probs of a short greedy answer, fp32.

    python -m recipe.mer_r1.doctor.compare --model DIR --preset NAME

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
from typing import Any

from omegaconf import DictConfig

from recipe.mer_r1.doctor.clip import made_mp4, made_wav
from recipe.mer_r1.eval.generate import load_preset
from recipe.mer_r1.run import launch

TOKENS = 16


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
    """Both sides' placeholders, and the largest difference in log-prob (None where the prompts already differ)."""
    from recipe.mer_r1.eval.rollout import Request, Rollout
    from verl_ext.data.dataset import build_messages

    with tempfile.TemporaryDirectory() as folder:
        row = made_row(Path(folder), preset.media.use_audio_in_video)
        rollout = Rollout(model, preset, TOKENS)
        answer = rollout.trace(Request(row, "", 0.0, preset.seed))
        encoded = rollout.encoder(build_messages(row))
    rollout.llm.llm_engine.engine_core.shutdown()  # its memory is wanted now
    processor = rollout.processor
    found = {
        "transformers": placeholders(encoded.prompt_ids, processor),
        "vllm": placeholders(answer.prompt_ids, processor),
        "same_prompt": answer.prompt_ids == encoded.prompt_ids,
        "tokens": len(answer.token_ids),
        "max_gap": None,
    }
    if found["same_prompt"]:
        ours = log_probs(model, preset.device, processor, encoded, answer.token_ids)
        found["max_gap"] = max(abs(a - b) for a, b in zip(ours, answer.log_probs, strict=True))
    return found


def placeholders(ids: list[int], processor: Any) -> dict[str, int]:
    """How many video and audio placeholders a prompt has."""
    counts = Counter(ids)
    return {kind: counts[getattr(processor, f"{kind}_token_id")] for kind in ("video", "audio")}


def log_probs(model: str, device: str, processor: Any, encoded: Any, response: list[int]) -> list[float]:
    """The response's log-probs under the policy's Thinker.

    Its logits are read before media tokens are taken out: vLLM, too, reports log-probs from before its logit bias.
    """
    import torch

    from verl_ext.models.model import Qwen2_5OmniThinkerPolicy
    from verl_ext.models.rope import position_ids

    policy = Qwen2_5OmniThinkerPolicy.from_pretrained(model, dtype=torch.float32, attn_implementation="sdpa").eval()
    ids = torch.tensor(encoded.prompt_ids + response)
    inputs = {
        "input_ids": ids[None],
        "attention_mask": torch.ones_like(ids)[None],
        "position_ids": position_ids(processor.rope, ids, encoded.inputs)[:, None],
        **encoded.inputs,
    }
    with torch.no_grad():
        logits = policy.to(device).thinker(**{name: tensor.to(device) for name, tensor in inputs.items()}).logits
    found = logits[0, -len(response) - 1 : -1].log_softmax(-1).cpu()
    return found.gather(1, ids[-len(response) :, None])[:, 0].tolist()


def main(arguments: Sequence[str]) -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(prog="python -m recipe.mer_r1.doctor.compare")
    parser.add_argument("--model", required=True)
    parser.add_argument("--preset", required=True)
    options = parser.parse_args(arguments)
    # One device, no captured graphs: the numbers of the computation itself.
    changes = ["rollout.dtype=float32", "rollout.tensor_parallel=1", "rollout.eager=true"]
    preset = load_preset(options.preset, changes)
    launch.prepare_environment(preset.device, options.model)
    print(json.dumps(compare(options.model, preset)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
