"""Greedy continuations by transformers' own `generate`, for a Thinker inside FSDP and LoRA wrappers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import GenerationConfig, GenerationMixin
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniThinkerForConditionalGeneration


@dataclass(frozen=True)
class Prompt:
    """A sequence to continue.

    Attributes:
        ids: token ids, media placeholders expanded.
        inputs: the processor's tensors of its media, as :class:`verl_ext.data.encode.EncodedPrompt` has them.
        audio_in_video: whether the sound is interleaved with the frames.
    """

    ids: list[int]
    inputs: dict[str, torch.Tensor] = field(default_factory=dict)
    audio_in_video: bool = False


class Greedy(GenerationMixin):
    """`generate` of a wrapped Thinker, greedy.

    `generate` is the Thinker's, but a forward must begin at the outermost module: FSDP gathers weights there, and the
    policy bans media tokens there. The head runs on the last place of each row only.

    Args:
        module: the policy, as an engine has wrapped it.
        max_tokens: of a continuation.
        ends: ids that end a continuation.
        banned: ids that are never chosen.
    """

    def __init__(self, module: torch.nn.Module, max_tokens: int, ends: Sequence[int], banned: Sequence[int]):
        self._module = module
        self._thinker = next(m for m in module.modules() if isinstance(m, Qwen2_5OmniThinkerForConditionalGeneration))
        self._ends = list(ends)
        self.generation_config = GenerationConfig(
            do_sample=False,
            max_new_tokens=max_tokens,
            eos_token_id=self._ends,
            pad_token_id=self._ends[0],
            suppress_tokens=list(banned),
            use_cache=True,
        )

    def __getattr__(self, name: str) -> Any:
        if name in ("_module", "_thinker"):  # while it is copied or unpickled
            raise AttributeError(name)
        return getattr(self._thinker, name)

    def prepare_inputs_for_generation(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return self._thinker.prepare_inputs_for_generation(*args, **kwargs)

    def __call__(self, input_ids: torch.Tensor, **inputs: Any) -> Any:
        """``input_ids (B, L)`` to an output with logits ``(B, 1, V)`` of the last place."""
        rows, length = input_ids.shape
        last = torch.arange(1, rows + 1, device=input_ids.device) * length - 1
        output = self._module(input_ids=input_ids, logits_at=last, **inputs)
        output.logits = output.logits[:, None]
        return output

    @torch.no_grad()
    def continued(self, prompts: Sequence[Prompt], synced: bool = False) -> list[list[int]]:
        """The continuations' token ids, each with the id that ended it, if one did.

        Args:
            prompts: one batch; all with their sound in the video, or none.
            synced: make as many forwards as the other ranks, which call this at the same time.
        """
        before, device = self._thinker.rope_deltas, next(self._module.parameters()).device
        try:
            sequences = self.generate(
                **{name: tensor.to(device) for name, tensor in batched(prompts, self._ends[0]).items()},
                use_audio_in_video=any(prompt.audio_in_video for prompt in prompts),
                generation_config=self.generation_config,
                synced_gpus=synced,
            )
        finally:
            self._thinker.rope_deltas = before
        longest = max(len(prompt.ids) for prompt in prompts)
        return [self._cut(row) for row in sequences[:, longest:].tolist()]

    def _cut(self, ids: list[int]) -> list[int]:
        """Up to its end, which is kept; padding follows."""
        end = next((place for place, token in enumerate(ids) if token in self._ends), len(ids))
        return ids[: end + 1]


def batched(prompts: Sequence[Prompt], padding: int) -> dict[str, torch.Tensor]:
    """Prompts in one batch, padded on the left: ``input_ids`` and ``attention_mask (B, L)``, and the media of all."""
    from verl.utils.model import extract_multi_modal_inputs

    longest = max(len(prompt.ids) for prompt in prompts)
    missing = [longest - len(prompt.ids) for prompt in prompts]
    ids = [[padding] * some + prompt.ids for some, prompt in zip(missing, prompts, strict=True)]
    mask = [[0] * some + [1] * (longest - some) for some in missing]
    media = extract_multi_modal_inputs([prompt.inputs for prompt in prompts])
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask), **media}
