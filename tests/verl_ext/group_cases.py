"""For the tests of groups: a worker between a made server, a made reward worker and a made TransferQueue."""

from __future__ import annotations

import asyncio
import hashlib
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
import transfer_queue as tq
from omegaconf import OmegaConf
from omni_cases import MEDIA
from verl.experimental.reward_loop.reward_loop import RewardLoopWorker
from verl.workers.rollout.llm_server import LLMServerClient
from verl.workers.rollout.replica import TokenOutput

SAMPLING = {"temperature": 1.0, "top_p": 0.9, "top_k": 7, "repetition_penalty": 1.0, "logprobs": True}


class Remote:
    """An object that is called like a Ray actor; ``calls`` has the names of the methods, in order."""

    def __init__(self, actor: Any):
        self._actor = actor
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            result = getattr(self._actor, name)(*args, **kwargs)
            return await result if asyncio.iscoroutine(result) else result

        def remote(*args: Any, **kwargs: Any) -> asyncio.Future[Any]:
            self.calls.append(name)
            return asyncio.ensure_future(call(*args, **kwargs))

        return SimpleNamespace(remote=remote)


class Server:
    """Answers with 1 to 9 tokens, which follow from all that it is asked: prompt, media, sampling."""

    def __init__(self) -> None:
        self.answers = 0
        self.fail_at: int | None = None  # the number of the answer, from 1, that fails

    async def generate(
        self, prompt_ids: list[int], sampling_params: dict[str, Any], request_id: str, **others: Any
    ) -> TokenOutput:
        return await self._answer(prompt_ids, sampling_params, others)

    async def generate_group(
        self,
        prompt_ids: list[int],
        sampling_params: list[dict[str, Any]],
        request_id: str,
        priority: int,
        media: dict[str, Any],
    ) -> list[TokenOutput]:
        others = {"priority": priority, **media}
        return [await self._answer(prompt_ids, one, others) for one in sampling_params]

    async def _answer(self, prompt_ids: list[int], sampling_params: dict[str, Any], others: dict[str, Any]) -> Any:
        self.answers += 1
        if self.fail_at == self.answers:
            raise RuntimeError("the made server is broken")
        asked = {"priority": 0, **{name: value for name, value in others.items() if value is not None}}
        state = repr((list(prompt_ids), sorted(sampling_params.items()), sorted(_plain(asked).items())))
        generator = np.random.default_rng(int.from_bytes(hashlib.sha256(state.encode()).digest()[:8], "big"))
        number = int(generator.integers(1, 10))
        return TokenOutput(
            token_ids=generator.integers(100, 400, number).tolist(),
            log_probs=(-generator.random(number)).tolist() if sampling_params["logprobs"] else None,
            stop_reason="completed",
            num_preempted=int(generator.integers(3)),
            extra_fields={"global_steps": 3, "num_cached_tokens": number},
        )


def _plain(value: Any) -> Any:
    """Tensors and arrays as their type, shape and bytes, so that repr shows all of them."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, torch.Tensor | np.ndarray):
        return str(value.dtype), tuple(value.shape), np.asarray(value).tobytes()
    return value


class Balancer:
    """verl's protocol; gives out one server and counts who has it."""

    def __init__(self, server: Remote):
        self.server, self.busy, self.asked = server, 0, []

    def require_acquire_fields(self) -> list[str]:
        return ["prompt_ids", "video_data"]

    def require_release_fields(self) -> list[str]:
        return ["request_id"]

    def acquire_server(self, request_id: str, prompt_ids: list[int], video_data: Any) -> tuple[str, Remote]:
        self.busy += 1
        self.asked.append((prompt_ids, video_data))
        return "server-0", self.server

    def release_server(self, server_id: str, request_id: str) -> None:
        assert server_id == "server-0"
        self.busy -= 1


class RewardWorker(RewardLoopWorker):
    """verl's reward worker with a made score; remembers by response what it was given, without padding."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}
        self.broken = False

    async def compute_score(self, data: Any) -> dict[str, Any]:
        if self.broken:
            raise RuntimeError("the made reward is broken")
        assert len(data) == 1
        others = {name: value[0] for name, value in data.non_tensor_batch.items()}
        mask = data.batch["attention_mask"][0].bool()
        # As verl's reward managers find the response.
        response = data.batch["responses"][0, : mask[-data.batch["responses"].shape[-1] :].sum()]
        self.seen[f"{others['uid']}_{others['session_id']}"] = {
            "response": response,
            "prompt": data.batch["prompts"][0],
            "input_ids": data.batch["input_ids"][0, mask],
            "position_ids": data.batch["position_ids"][0][..., mask],
            "others": others | {"tool_extra_fields": dict(others["tool_extra_fields"])},
        }
        info = {"length": len(response), "text": str(response.tolist())}
        return {"reward_score": float(response.sum()), "reward_extra_info": info}


class Queue:
    """What was put into TransferQueue: by key the partition, the tag and the fields; and each key's tags in order."""

    def __init__(self) -> None:
        self.stored: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {}
        self.status: dict[str, list[tuple[str, str]]] = {}
        self.puts = 0

    async def async_kv_put(self, key: str, partition_id: str, tag: dict[str, Any]) -> None:
        self.status.setdefault(key, []).append((partition_id, tag["status"]))

    async def async_kv_batch_put(self, keys: list[str], fields: Any, tags: list[Any], partition_id: str) -> None:
        self.puts += 1
        assert fields.batch_size == (len(keys),)
        columns = {
            # TransferQueue takes tensors apart like this; other fields are lists.
            name: list(fields[name].unbind()) if isinstance(fields[name], torch.Tensor) else list(fields[name])
            for name in fields.keys()  # noqa: SIM118  a TensorDict's items would be its rows
        }
        for place, (key, tag) in enumerate(zip(keys, tags, strict=True)):
            assert key not in self.stored
            self.stored[key] = partition_id, tag, {name: column[place] for name, column in columns.items()}


class Bench:
    """A worker with all that it talks to. ``rollout`` and ``data`` change the configuration."""

    def __init__(
        self,
        processor: Any,
        rewards: bool = True,
        audio_in_video: bool = False,
        rollout: dict[str, Any] | None = None,
        **data: Any,
    ):
        from verl_ext.rollout.agent_loop import OmniAgentLoopWorker

        sizes = {"prompt_length": 192, "response_length": 8, "seed": 0, "full_determinism": False}
        media = {**MEDIA, "use_audio_in_video": audio_in_video}
        kind = {"name": "vllm", "n": 3, "val_kwargs": {"n": 2}, "disaggregation": {"enabled": False}}
        settings = {"media": media, "prompt_cache_size": 8, "seeded_responses": True, **data}
        self.config = OmegaConf.create(
            {"actor_rollout_ref": {"rollout": {**sizes, **kind, **(rollout or {})}}, "data": settings}
        )
        self.server, self.reward, self.queue = Server(), RewardWorker(), Queue()
        self.to_server, self.to_reward = Remote(self.server), Remote(self.reward)
        self.balancer = Balancer(self.to_server)
        worker = self.worker = OmniAgentLoopWorker.__new__(OmniAgentLoopWorker)
        worker.config, worker.rollout_config = self.config, self.config.actor_rollout_ref.rollout
        worker.llm_client = LLMServerClient(self.config, Remote(self.balancer))
        worker.processor, worker.tokenizer, worker.hf_model_type = processor, processor.tokenizer, "qwen2_5_omni"
        worker.dataset_cls, worker.tools, worker.distillation_enabled = None, [], False
        worker.mm_processor_kwargs = {}
        worker.reward_loop_worker_handles = [self.to_reward] if rewards else None

    def run(self, *prompts: dict[str, Any], grouped: bool = True, validate: bool = False, **sampling: Any) -> Queue:
        """Answer prompts at the same time, in groups or in verl's own way."""
        from verl_ext.rollout.group import GroupMixin

        worker = self.worker
        way = worker._run_prompt if grouped else super(GroupMixin, worker)._run_prompt
        where = {"step": 3, "sample_index": 0, "rollout_n": 0, "validate": validate}
        shared = {**SAMPLING, **sampling}  # one for all prompts of a batch, as in verl

        async def all_of_them() -> None:
            await asyncio.gather(*(way(dict(prompt), shared, where) for prompt in prompts))
            await asyncio.sleep(0)  # the server is released without being waited for

        puts = {name: getattr(self.queue, name) for name in ("async_kv_put", "async_kv_batch_put")}
        with mock.patch.multiple(tq, **puts):
            asyncio.run(all_of_them())
        return self.queue
