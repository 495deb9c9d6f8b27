"""The responses of a prompt together: one message to vLLM, one to the reward worker, one to TransferQueue.

verl's worker makes an agent loop for every response, and each sends the clip's frames and samples to vLLM and its own
messages to the load balancer, the reward worker and TransferQueue. With a small model these messages take longer than
the sampling. What is asked for, scored and stored is the same here.

verl's own way remains for other agent loops, for traces and teachers, and in the asynchronous modes, whose client
continues responses that a weight update has cut off.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import uuid4

import numpy as np
import torch
import transfer_queue as tq
from tensordict import TensorDict
from torch.nn.utils.rnn import pad_sequence
from verl import DataProto
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopOutput, DictConfigWrap
from verl.trainer.ppo.v1.agent_loop_tq import apply_greedy_sampling_params
from verl.utils.profiler import simple_timer
from verl.utils.rollout_trace import RolloutTraceConfig
from verl.utils.tensordict_utils import list_of_dict_to_tensordict
from verl.workers.rollout.llm_server import LLMServerClient

logger = logging.getLogger(__name__)


class GroupMixin:
    """For verl's ``AgentLoopWorkerTQ``."""

    group_loop_class: ClassVar[type[AgentLoopBase]]
    """A single-turn loop with ``prepare``, ``seeded`` and ``output`` beside ``run``."""
    _group_loop: AgentLoopBase | None = None

    async def _run_prompt(
        self, prompt: dict[str, Any], sampling_params: dict[str, Any], trajectory: dict[str, Any], trace: bool = False
    ) -> None:
        if not self._takes_groups(prompt["agent_name"]):
            await super()._run_prompt(prompt, sampling_params, trajectory, trace)
            return
        uid, partition = prompt["uid"], "val" if trajectory["validate"] else "train"
        await tq.async_kv_put(key=uid, partition_id=partition, tag={"status": "running"})
        status = "finished"
        try:
            await self._run_group(prompt, sampling_params, partition)
        except Exception:  # the trainer counts what is missing, and sends the user here
            logger.exception(f"Error in _run_prompt for uid={uid}")
            status = "failure"
        await tq.async_kv_put(key=uid, partition_id=partition, tag={"status": status})

    def _takes_groups(self, agent_name: str) -> bool:
        from verl.experimental.agent_loop.agent_loop import _agent_loop_registry

        of_loop = f"{self.group_loop_class.__module__}.{self.group_loop_class.__qualname__}"
        rollout = self.rollout_config
        return (
            _agent_loop_registry.get(agent_name, {}).get("_target_") == of_loop
            and type(self.llm_client) is LLMServerClient
            # Others have servers of their own, without GroupServer's method.
            and rollout.name == "vllm"
            and not rollout.disaggregation.enabled
            and not self.distillation_enabled
            and RolloutTraceConfig.get_backend() is None
        )

    async def _run_group(self, prompt: dict[str, Any], sampling_params: dict[str, Any], partition: str) -> None:
        rollout = self.rollout_config
        row = {name: value for name, value in prompt.items() if name != "agent_name"}
        number = row.pop("__rollout_n__", rollout.val_kwargs.n if partition == "val" else rollout.n)
        sampling_params = dict(sampling_params)
        if not row.pop("__do_sample__", True) and partition == "train":
            apply_greedy_sampling_params(sampling_params)
        rows = [{**row, "session_id": session} for session in range(number)]
        loop = self._loop()
        prepared = await loop.prepare(row)
        metrics: dict[str, Any] = {}
        with simple_timer("generate_sequences", metrics):
            answers = await generate_group(
                self.llm_client,
                prepared.ids,
                [loop.seeded(sampling_params, one) for one in rows],
                priority=int(row.get("priority", 0)),
                **prepared.media(),
            )
        outputs = [loop.output(prepared, answer, metrics) for answer in answers]
        positions = self._group_positions(outputs)
        ids = [torch.tensor(one.prompt_ids + one.response_ids) for one in outputs]
        await self._score_group(outputs, ids, positions, row)
        await self._store_group(outputs, ids, positions, rows, partition)

    def _loop(self) -> AgentLoopBase:
        if self._group_loop is None:
            self._group_loop = self.group_loop_class(
                trainer_config=DictConfigWrap(self.config),
                server_manager=self.llm_client,
                tokenizer=self.tokenizer,
                processor=self.processor,
                dataset_cls=self.dataset_cls,
                data_config=DictConfigWrap(self.config.data),
                hf_model_type=self.hf_model_type,
            )
        return self._group_loop

    def _group_positions(self, outputs: Sequence[AgentLoopOutput]) -> list[torch.Tensor]:
        """Of each response, ``(4, l_i)``, or ``(l_i,)`` without M-RoPE.

        The prompt's are computed once. A response continues from the largest, in step in all channels.
        """
        prompt_ids = torch.tensor([outputs[0].prompt_ids])
        inputs = self._compute_multi_modal_inputs(outputs[0], prompt_ids)
        prompt = self._compute_position_ids(prompt_ids, torch.ones_like(prompt_ids), inputs)[0]  # (4, P)
        first = prompt.amax(dim=-1, keepdim=True)
        if len(first) > 1:  # M-RoPE: text goes on in step in the channels of time, height and width
            first[1:] = first[1:].max()
        return [torch.cat([prompt, first + 1 + torch.arange(len(one.response_ids))], dim=-1) for one in outputs]

    async def _score_group(
        self,
        outputs: Sequence[AgentLoopOutput],
        ids: Sequence[torch.Tensor],
        positions: Sequence[torch.Tensor],
        row: dict[str, Any],
    ) -> None:
        if self.reward_loop_worker_handles is None:
            return  # verl scores the batch later
        number = len(outputs)
        rows = {
            "prompts": [torch.tensor(one.prompt_ids) for one in outputs],
            "responses": [torch.tensor(one.response_ids) for one in outputs],
            "input_ids": list(ids),
            "attention_mask": [torch.ones_like(one) for one in ids],
        }
        padded = {name: pad_sequence(values, batch_first=True) for name, values in rows.items()}
        padded["position_ids"] = pad_sequence([one.T for one in positions], batch_first=True).transpose(1, -1)
        others = {
            **{name: np.array([value] * number) for name, value in row.items()},
            "session_id": np.arange(number),
            "__num_turns__": np.array([one.num_turns for one in outputs]),
            "tool_extra_fields": np.array([one.extra_fields for one in outputs], dtype=object),
            "prompt_len": np.array([len(one.prompt_ids) for one in outputs]),
            "response_len": np.array([len(one.response_ids) for one in outputs]),
        }
        data = DataProto(batch=TensorDict(padded, batch_size=number), non_tensor_batch=others)
        timing: dict[str, float] = {}
        with simple_timer("compute_score", timing):
            scores = await random.choice(self.reward_loop_worker_handles).compute_score_batch.remote(data)
        for one, score in zip(outputs, scores, strict=True):
            one.reward_score = score["reward_score"]
            one.extra_fields["reward_extra_info"] = score["reward_extra_info"]
            one.metrics.compute_score = timing["compute_score"]

    async def _store_group(
        self,
        outputs: Sequence[AgentLoopOutput],
        ids: Sequence[torch.Tensor],
        positions: Sequence[torch.Tensor],
        rows: Sequence[dict[str, Any]],
        partition: str,
    ) -> None:
        fields, tags = [], []
        for one, own_ids, position, row in zip(outputs, ids, positions, rows, strict=True):
            field = {**one.as_dict(), **row}
            field.pop("multi_modal_data", None)
            inputs = self._compute_multi_modal_inputs(one, own_ids)
            field |= {"loss_mask": field["response_mask"], "input_ids": own_ids, "position_ids": position}
            fields.append(field | {"multi_modal_inputs": inputs})
            steps = {name: field["extra_fields"].get(name) for name in ("min_global_steps", "max_global_steps")}
            lengths = {
                "prompt_len": len(one.prompt_ids),
                "response_len": len(one.response_ids),
                "seq_len": len(own_ids),
            }
            tags.append({"status": "success", "global_steps": row["global_steps"], **lengths, **steps})
        await tq.async_kv_batch_put(
            keys=[f"{row['uid']}_{row['session_id']}_0" for row in rows],
            fields=list_of_dict_to_tensordict(fields),
            tags=tags,
            partition_id=partition,
        )


async def generate_group(
    client: LLMServerClient,
    prompt_ids: list[int],
    sampling_params: Sequence[dict[str, Any]],
    priority: int = 0,
    **media: Any,
) -> list[Any]:
    """verl's ``generate`` for several responses of a prompt, from one server.

    Args:
        client: verl's.
        prompt_ids: token ids.
        sampling_params: vLLM's, of each response.
        priority: of the requests.
        media: as in ``generate``.

    Returns:
        verl's ``TokenOutput`` by response.
    """
    request_id = uuid4().hex
    name, server = await client._acquire_server(
        request_id, prompt_ids=prompt_ids, sampling_params=sampling_params[0], **media
    )
    try:
        answers = await server.generate_group.remote(prompt_ids, list(sampling_params), request_id, priority, media)
    finally:
        client._release_server(name, request_id=request_id)
    for answer in answers:
        step = answer.extra_fields.get("global_steps")
        answer.extra_fields.setdefault("min_global_steps", step)
        answer.extra_fields.setdefault("max_global_steps", step)
    return answers
