"""A single-turn agent loop for clips: each prompt is decoded and processed once for all its responses.

verl's own loop runs the processor three times for every response (for the tokens, for the reward, for the actor). Here
a worker keeps the encoding (:class:`verl_ext.data.encode.PromptEncoder`), and the reply can be made to begin with a
given text (``response_prefix`` of the row), which then belongs to the prompt: it is neither trained on nor scored as
sampled tokens. Each response is sampled with a seed of its own: vLLM's other source of chance, one generator for all,
depends on what else is in the batch, and begins anew where a run is resumed. The responses of a prompt are asked for,
scored and stored together (:mod:`verl_ext.rollout.group`).
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopOutput, register
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ
from verl.utils.profiler import simple_timer

from verl_ext.data.encode import EncodedPrompt, MediaConfig, PromptEncoder
from verl_ext.rollout.early import Early
from verl_ext.rollout.group import GroupMixin

# Key of the actor's tensors inside AgentLoopOutput.multi_modal_data, which verl drops before it stores the output.
ACTOR_INPUTS = "actor_inputs"


def response_seed(run_seed: int, step: int, row: dict[str, Any]) -> int:
    """The seed of one response: of the run's seed, the step, the row of the shard, its form, and which response it is.

    Returns:
        32 bits, the same in every process and Python.
    """
    identity = (run_seed, step, row.get("extra_info"), row.get("response_prefix"), row.get("session_id"))
    return int.from_bytes(hashlib.blake2b(repr(identity).encode(), digest_size=4).digest(), "big")


@dataclass(frozen=True)
class Prompt:
    """A row's prompt: its encoding, and its token ids with the reply's prefix."""

    encoded: EncodedPrompt
    ids: list[int]

    def media(self) -> dict[str, Any]:
        """Arguments of verl's ``generate``."""
        return {
            "video_data": self.encoded.videos or None,
            "audio_data": self.encoded.audios or None,
            "mm_processor_kwargs": self.encoded.processor_kwargs,
        }


class PromptTooLongError(ValueError):
    """A prompt over ``data.max_prompt_length``; media tokens cannot be cut."""


@register("omni_agent")
class OmniAgentLoop(AgentLoopBase):
    """Encode, generate once, hand the processor's tensors on."""

    # verl makes one loop object per response; the encoder belongs to the worker process.
    _encoder: PromptEncoder | None = None
    _encoder_lock = threading.Lock()

    def encode(self, messages: list[dict[str, Any]]) -> EncodedPrompt:
        """One encoding at a time per worker: the G responses of a group wait for the first one's."""
        with OmniAgentLoop._encoder_lock:
            if OmniAgentLoop._encoder is None:
                OmniAgentLoop._encoder = PromptEncoder(
                    self.processor,
                    MediaConfig.from_config(self.data_config.media),
                    cache_size=self.data_config.prompt_cache_size,
                    cache_gb=self.data_config.get("prompt_cache_gb"),
                    chat_template_kwargs=self.apply_chat_template_kwargs,
                )
            return OmniAgentLoop._encoder(messages)

    async def run(self, sampling_params: dict[str, Any], priority: int = 0, **row: Any) -> AgentLoopOutput:
        """Generate one response.

        Args:
            sampling_params: vLLM's.
            row: of :class:`verl_ext.data.dataset.OmniDataset`; ``raw_prompt`` and ``response_prefix`` are used, and
                for the seed ``extra_info`` and verl's ``global_steps`` and ``session_id``.

        Raises:
            MediaError: a clip cannot be decoded.
            PromptTooLongError: names the clip and the limit.
        """
        prompt = await self.prepare(row)
        metrics: dict[str, Any] = {}
        with simple_timer("generate_sequences", metrics):
            answer = await self.server_manager.generate(
                request_id=uuid4().hex,
                prompt_ids=prompt.ids,
                sampling_params=self.seeded(sampling_params, row),
                priority=int(priority),
                **prompt.media(),
            )
        return self.output(prompt, answer, metrics)

    async def prepare(self, row: dict[str, Any]) -> Prompt:
        """The row's prompt; errors as in :meth:`run`."""
        encoded = await asyncio.get_running_loop().run_in_executor(None, self.encode, list(row["raw_prompt"]))
        prefix_ids = self.tokenizer.encode(row.get("response_prefix") or "", add_special_tokens=False)
        prompt = Prompt(encoded, encoded.prompt_ids + prefix_ids)
        if len(prompt.ids) > self.rollout_config.prompt_length:
            raise PromptTooLongError(
                f"clip {row.get('extra_info', {}).get('name', '?')!r}: the prompt has {len(prompt.ids)} tokens, over "
                f"data.max_prompt_length={self.rollout_config.prompt_length}. Raise the limit, or lower "
                "data.media.fps, max_frames or max_pixels."
            )
        return prompt

    def seeded(self, sampling_params: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
        """The sampling parameters of one response."""
        if not (self.data_config.seeded_responses and sampling_params.get("temperature")):
            return sampling_params
        seed = response_seed(self.rollout_config.seed, row.get("global_steps", 0), row)
        return {**sampling_params, "seed": seed}

    def output(self, prompt: Prompt, answer: Any, metrics: dict[str, Any]) -> AgentLoopOutput:
        """verl's output for an answer of vLLM (``TokenOutput``)."""
        limit = self.rollout_config.response_length
        num_preempted = -1 if answer.num_preempted is None else answer.num_preempted
        return AgentLoopOutput(
            prompt_ids=prompt.ids,
            response_ids=answer.token_ids[:limit],
            response_mask=[1] * len(answer.token_ids[:limit]),
            response_logprobs=answer.log_probs[:limit] if answer.log_probs else None,
            multi_modal_data={ACTOR_INPUTS: prompt.encoded.inputs},
            mm_processor_kwargs=prompt.encoded.processor_kwargs,
            num_turns=2,
            metrics={**metrics, "num_preempted": num_preempted},
            extra_fields={**answer.extra_fields, "turn_scores": [], "tool_rewards": []},
        )


class OmniAgentLoopWorker(GroupMixin, AgentLoopWorkerTQ.__ray_metadata__.modified_class):
    """verl's worker, given the processor's tensors by the loop instead of computing them anew."""

    group_loop_class = OmniAgentLoop

    def _compute_multi_modal_inputs(self, output: AgentLoopOutput, input_ids: Any) -> dict[str, Any]:
        inputs = (output.multi_modal_data or {}).get(ACTOR_INPUTS)
        return dict(inputs) if inputs is not None else super()._compute_multi_modal_inputs(output, input_ids)


WORKERS = Early(OmniAgentLoopWorker)


class OmniAgentLoopManager(AgentLoopManagerTQ):
    """For ``rollout.agent.agent_loop_manager_class``; its workers import this module, which registers the loop."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = WORKERS
