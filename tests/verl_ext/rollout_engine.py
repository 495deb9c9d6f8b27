"""vLLM offline, driven as verl drives its servers: verl's worker extension bans tokens and takes new weights."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import torch


class RolloutEngine:
    """An fp32 engine on the CPU for the model in ``folder``; ``options`` go to ``vllm.LLM``."""

    def __init__(self, folder: Any, processor: Any, **options: Any):
        from vllm import LLM

        self.processor = processor
        # Part of the address at which the worker asks for weights; inherited by the engine's processes.
        os.environ["VERL_RAY_JOB_ID"] = self.job = uuid4().hex[:8]
        self.llm = LLM(
            str(folder),
            dtype="float32",
            enforce_eager=True,
            max_model_len=512,
            max_num_seqs=32,
            limit_mm_per_prompt={"video": 1, "audio": 1, "image": 0},
            mm_processor_cache_gb=1,  # on, as in the presets without audio in video
            worker_extension_cls="verl.workers.rollout.vllm_rollout.utils.vLLMColocateWorkerExtension",
            **options,
        )

    def ban(self, token_ids: list[int]) -> None:
        """As verl's server does at its start."""
        arguments = {"vocab_size": len(self.processor.tokenizer), "banned_token_ids": token_ids}
        self.llm.collective_rpc("monkey_patch_model", kwargs=arguments)

    def load(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Send weights through shared memory in buckets of 1 MiB and forget what was cached under the old ones."""
        from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightSender

        receiver = threading.Thread(
            target=self.llm.collective_rpc,
            args=("update_weights_from_ipc",),
            kwargs={"timeout": 120, "kwargs": {"use_shm": True}},
            daemon=True,
        )
        receiver.start()
        address = f"ipc:///tmp/rl-colocate-zmq-{self.job}-replica-0-rank-0.sock"
        sender = BucketedWeightSender(address, bucket_size_mb=1, use_shm=True)
        asyncio.run(asyncio.wait_for(sender.async_send_weights(iter(weights.items())), timeout=120))
        receiver.join(120)
        self.llm.reset_prefix_cache()
        self.llm.reset_mm_cache()
        self.llm.llm_engine.engine_core.reset_encoder_cache()

    def sample(self, prompts: list[Any], responses: int = 2, tokens: int = 24, seed: int = 0, **options: Any):
        """Sample at temperature 1, all prompts in one batch.

        Returns:
            Per response: the encoded prompt, the token ids, vLLM's log-probs ``(tokens,)``.
        """
        from vllm import SamplingParams

        requests = [self._request(encoded) for encoded in prompts]
        parameters = SamplingParams(
            n=responses, max_tokens=tokens, temperature=1.0, logprobs=0, ignore_eos=True, seed=seed, **options
        )
        samples = []
        for encoded, output in zip(prompts, self.llm.generate(requests, parameters, use_tqdm=False), strict=True):
            assert output.prompt_token_ids == encoded.prompt_ids, "vLLM expands the prompt differently"
            for choice in output.outputs:
                ids = list(choice.token_ids)
                log_probs = [at[token].logprob for at, token in zip(choice.logprobs, ids, strict=True)]
                samples.append((encoded, ids, torch.tensor(log_probs)))
        return samples

    def outputs(self, encoded: Any, seeds: list[int], **options: Any) -> list[tuple[int, list[int], list[float]]]:
        """Sample one prompt once per seed, in one batch, as verl's server does (``LLM`` fixes the kind of output).

        Returns:
            Per seed: the number of outputs, and token ids and log-probs of the last one.
        """
        from vllm import SamplingParams

        engine = self.llm.llm_engine
        for place, seed in enumerate(seeds):
            parameters = SamplingParams(max_tokens=24, temperature=1.0, logprobs=0, seed=seed, **options)
            engine.add_request(f"{place}-group", self._request(encoded), parameters)
        found: dict[str, list[Any]] = {}
        while engine.has_unfinished_requests():
            for output in engine.step():
                found.setdefault(output.request_id.partition("-")[0], []).append(output.outputs[0])
        self.llm.reset_prefix_cache()
        answers = []
        for outputs in (found[str(place)] for place in range(len(seeds))):
            ids = list(outputs[-1].token_ids)
            log_probs = [at[token].logprob for at, token in zip(outputs[-1].logprobs, ids, strict=True)]
            answers.append((len(outputs), ids, log_probs))
        return answers

    def _request(self, encoded: Any) -> dict[str, Any]:
        from verl_ext.models.processor import collapse_media

        request = {"prompt_token_ids": collapse_media(encoded.prompt_ids, self.processor)}
        media = {"video": encoded.videos, "audio": encoded.audios}
        if media := {kind: items for kind, items in media.items() if items}:
            request["multi_modal_data"] = media
            request["mm_processor_kwargs"] = encoded.processor_kwargs
        return request

    def close(self) -> None:
        # Killed after vLLM's own 5 s, it would leave its shared-memory ring in /dev/shm.
        self.llm.llm_engine.engine_core.shutdown(timeout=60)
