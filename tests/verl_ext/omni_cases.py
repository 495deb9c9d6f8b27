"""What the tests of verl_ext share: prompts of MER-Micro, changed weights, and the actor's log-probs of a response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

MEDIA = {"fps": 2.0, "max_frames": 4, "min_pixels": 3136, "max_pixels": 3136, "max_seconds": 4.0}


def encoder(processor: Any, audio_in_video: bool = False, cache_size: int = 0, **media: Any) -> Any:
    """A PromptEncoder with small frames."""
    from verl_ext.data.encode import MediaConfig, PromptEncoder

    config = MediaConfig(**{**MEDIA, "use_audio_in_video": audio_in_video, **media})
    return PromptEncoder(processor, config, cache_size=cache_size)


def messages(row: Mapping[str, Any], audio_in_video: bool = False) -> list[dict[str, Any]]:
    """The chat of a row; with ``audio_in_video`` its audio comes from the mp4."""
    from verl_ext.data.dataset import build_messages

    row = {**row, "prompt": [dict(message) for message in row["prompt"]]}
    if audio_in_video:
        row["prompt"] = [{**m, "content": m["content"].replace("<audio>", "")} for m in row["prompt"]]
        row["audios"] = []
    return build_messages(row)


def without(row: Mapping[str, Any], column: str) -> dict[str, Any]:
    """The row without its videos or audios, and its prompt without their placeholder."""
    content = row["prompt"][0]["content"].replace({"videos": "<video>", "audios": "<audio>"}[column], "")
    return {**row, column: [], "prompt": [{**row["prompt"][0], "content": content}]}


def prompts(processor: Any, rows: Any, long_row: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Encoded prompts by kind: separate audio and video, interleaved, only one of them, text alone; sizes differ."""
    shapes = [
        (rows[0], {}),
        (rows[1], {"fps": 4.0, "max_frames": 8}),
        (rows[2], {"max_frames": 2, "min_pixels": 12544, "max_pixels": 12544}),
        (long_row, {"max_frames": 12, "max_seconds": 8.0}),
    ]
    text = ["What does the person feel?", "Answer with one word: is a smile happy or sad?"]
    return {
        "separate": [encoder(processor, **media)(messages(row)) for row, media in shapes],
        "interleaved": [encoder(processor, True, **media)(messages(row, True)) for row, media in shapes],
        "partial": [
            encoder(processor, **media)(messages(without(row, part)))
            for part in ("videos", "audios")
            for row, media in shapes[:2]
        ],
        "text": [encoder(processor)([{"role": "user", "content": content}]) for content in text],
    }


def model_inputs(processor: Any, encoded: Any, response: list[int], shift: int = 0) -> dict[str, torch.Tensor]:
    """The policy's arguments for one prompt and response; ``shift`` moves the positions behind ``<|audio_bos|>``."""
    from verl_ext.models.rope import position_ids

    ids = torch.tensor(encoded.prompt_ids + response)
    positions = position_ids(processor.rope, ids, encoded.inputs)
    if shift:
        start = (ids == processor.audio_bos_token_id).nonzero()[0].item()
        positions[1:, start:] += shift
    return {
        "input_ids": ids[None],
        "attention_mask": torch.ones_like(ids)[None],
        "position_ids": positions[:, None],
        **encoded.inputs,
    }


@torch.no_grad()
def actor_log_probs(policy: Any, processor: Any, encoded: Any, response: list[int], shift: int = 0) -> torch.Tensor:
    """Log-probs ``(len(response),)`` of a response under the policy."""
    inputs = model_inputs(processor, encoded, response, shift)
    log_probs = policy(**inputs).logits[0].log_softmax(-1)
    labels = inputs["input_ids"][0, 1:, None]
    return log_probs[:-1].gather(1, labels)[-len(response) :, 0]


def sharpened(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights under which media, positions and earlier tokens matter more than under freshly drawn ones."""
    factors = {"lm_head": 3.0, ".layers.": 1.5}
    return {
        name: tensor * next((f for part, f in factors.items() if part in name and tensor.dim() > 1), 1.0)
        for name, tensor in state.items()
    }


def biased_to(state: Mapping[str, torch.Tensor], token_ids: list[int]) -> dict[str, torch.Tensor]:
    """Weights whose likeliest tokens are nearly always among ``token_ids``: one direction, both signs in turn."""
    changed = dict(state)
    head = state["thinker.lm_head.weight"].clone()
    direction = head[token_ids[0]] * 40
    for place, token in enumerate(token_ids):
        head[token] = direction if place % 2 else -direction
    changed["thinker.lm_head.weight"] = head
    return changed


def sample(processor, kind, row, seed):
    """One example: a prompt of that kind and a made response, as the datasets give them to the engine."""
    from verl_ext.models.rope import position_ids

    if kind == "text":
        chat = [{"role": "user", "content": f"What does person {seed} feel?"}]
    else:
        chat = messages(row, audio_in_video=kind == "interleaved")
        if kind in ("video", "audio"):
            chat = [
                {"role": "user", "content": [part for part in chat[0]["content"] if part["type"] in (kind, "text")]}
            ]
    encoded = encoder(processor, audio_in_video=kind == "interleaved")(chat)
    generator = torch.Generator().manual_seed(seed)
    response = torch.randint(100, len(processor.tokenizer), (8 + seed,), generator=generator)
    ids = torch.cat([torch.tensor(encoded.prompt_ids), response])
    mask = torch.zeros_like(ids)
    mask[-len(response) :] = 1
    return {
        "input_ids": ids,
        "position_ids": position_ids(processor.rope, ids, encoded.inputs),
        "loss_mask": mask,
        "multi_modal_inputs": encoded.inputs,
    }


# Prompts by sample, in the order of the batch: groups of three, of two and of one, the first two each on both
# of two ranks and not side by side; the last two are as verl's padding rows, without media.
ORDER = ("a", "t", "a", "b", "b", "a", "p", "p")
KINDS = {"a": "separate", "t": "separate", "b": "interleaved", "p": "text"}


def grouped_samples(processor, rows):
    """Samples of several prompts, with branches and what a loss reads, and the sets whose log-probs are asked for."""
    from verl_ext.models.rope import position_ids

    samples = []
    for seed, prompt in enumerate(ORDER):
        kind = KINDS[prompt]
        generator = torch.Generator().manual_seed(seed)
        if kind == "text":
            chat = [{"role": "user", "content": "."}]
        else:
            chat = messages(rows["atb".index(prompt)], audio_in_video=kind == "interleaved")
        encoded = encoder(processor, audio_in_video=kind == "interleaved")(chat)
        size = 1 if prompt == "p" else 4 + 3 * seed
        response, branch = (
            torch.randint(100, len(processor.tokenizer), (length,), generator=generator) for length in (size, 9 - seed)
        )
        ids = torch.cat([torch.tensor(encoded.prompt_ids), response])
        samples.append(
            {
                "uid": prompt,
                "input_ids": ids,
                "position_ids": position_ids(processor.rope, ids, encoded.inputs),
                "responses": response,
                "advantages": torch.randn(size, generator=generator),
                "prompts": torch.tensor(encoded.prompt_ids),
                "response_mask": (torch.arange(size) < max(1, size - seed)).long(),
                "old_log_probs": -6.4 + 0.2 * torch.randn(size, generator=generator),
                "ref_log_prob": -6.4 + 0.2 * torch.randn(size, generator=generator),
                "branch_ids": branch,
                "set_positions": torch.tensor([size - 1, 0, size // 2]),
                "branch_set_positions": torch.tensor([0, len(branch) - 1, 0]),
                "multi_modal_inputs": encoded.inputs,
            }
        )
    sets = [list(range(100, 120)), [7], list(range(200, 300))]
    return {"token_sets": sets, "token_shares": [[0.5] * len(tokens) for tokens in sets], "samples": samples}
