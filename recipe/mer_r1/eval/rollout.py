"""Responses of a saved model by vLLM, offline, encoded and sampled as in RL."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from recipe.mer_r1.method.answer import ONE_ANSWER, ask_for
from verl_ext.data.encode import EncodedPrompt, MediaConfig, PromptEncoder
from verl_ext.data.source import MediaError

Item = TypeVar("Item")
Made = TypeVar("Made")
_AHEAD = 16
"""Prompts decoded and processed while vLLM samples; each holds a clip's frames and sound."""


class TooLongError(ValueError):
    """A prompt over the limit; media tokens cannot be cut."""


def ban(processor: Any, vocabulary: int) -> dict[int, float]:
    """Logit biases under which no placeholder of a media file is sampled, nor an id that has no token; as in RL.

    Args:
        processor: bound by :func:`verl_ext.models.processor.bind`.
        vocabulary: number of the model's logits.
    """
    from verl_ext.models.processor import media_token_ids

    return dict.fromkeys([*media_token_ids(processor), *range(len(processor.tokenizer), vocabulary)], -100.0)


@dataclass(frozen=True)
class Request:
    """One response to make.

    Attributes:
        row: of a shard (verl's columns).
        prefix: what the reply is made to begin with; part of the prompt.
        temperature: 0 is greedy.
        seed: of this response; used above temperature 0.
        key: the asker's own name for it.
    """

    row: Mapping[str, Any]
    prefix: str
    temperature: float
    seed: int
    key: Any = None


@dataclass(frozen=True)
class Reply:
    """What came back.

    Attributes:
        text: the response, its prefix included, special tokens left out (as RL's reward sees it).
        tokens: number of sampled tokens.
        finished: whether the model ended the turn itself, within the limit.
        prompt_tokens: of the prompt, media expanded.
        cached_tokens: of these, how many vLLM's prefix cache had from another form of the clip.
    """

    text: str
    tokens: int
    finished: bool
    prompt_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True)
class Failure:
    """Why a request has no reply: the clip cannot be decoded, or its prompt is too long."""

    reason: str


@dataclass(frozen=True)
class Trace:
    """A response in numbers, as vLLM has it.

    Attributes:
        prompt_ids: media placeholders expanded by vLLM.
        token_ids: sampled.
        log_probs: of these, before logit biases.
    """

    prompt_ids: list[int]
    token_ids: list[int]
    log_probs: list[float]


class Rollout:
    """A model in vLLM. One clip is decoded and processed once for all its forms.

    Args:
        model: full-Omni folder.
        preset: the `preset` node of a configuration: `media`, `rollout`, `max_prompt_length`, `seed` are read.
        max_tokens: of a response.
        form: of a response; the prompt of each row is changed to ask for it.
    """

    def __init__(self, model: str, preset: DictConfig, max_tokens: int, form: str = ONE_ANSWER):
        self.form = form
        if preset.device == "cpu":
            # In this process: half the memory, and nothing is left behind by Ctrl-C.
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        from transformers import AutoConfig, AutoProcessor
        from vllm import LLM

        if preset.device == "cpu":
            # Else a warning per clip: the worker, being in this process, takes torch.set_num_threads away from it. Only
            # here, because importing vLLM resets the levels of its loggers.
            logging.getLogger("vllm.v1.worker.cpu_worker").setLevel(logging.ERROR)
        from verl_ext.models.processor import bind

        config = AutoConfig.from_pretrained(model)
        self.processor = bind(AutoProcessor.from_pretrained(model), config)
        self.tokenizer = self.processor.tokenizer
        media = MediaConfig.from_config(OmegaConf.to_container(preset.media, resolve=True))
        self.encoder = PromptEncoder(self.processor, media, cache_size=1)
        self.max_tokens, self.max_prompt = max_tokens, preset.max_prompt_length
        self.bias = ban(self.processor, config.thinker_config.text_config.vocab_size)
        longest = self.max_prompt + max_tokens
        # A second batch waits in vLLM's queue, so that a place that comes free is filled at once.
        self.in_flight = 2 * preset.rollout.max_sequences
        self.llm = LLM(
            model=model,
            dtype=preset.rollout.dtype,
            seed=preset.seed,
            tensor_parallel_size=preset.rollout.tensor_parallel,
            gpu_memory_utilization=preset.rollout.memory_utilization,
            enforce_eager=preset.rollout.eager,
            max_num_seqs=preset.rollout.max_sequences,
            max_model_len=longest,
            enable_chunked_prefill=preset.rollout.chunked_prefill,
            # The modes of a clip share all of the prompt but its end. vLLM's blocks of 128 tokens on a CPU are longer
            # than a short clip's prompt: none would ever be shared.
            enable_prefix_caching=True,
            block_size=16 if preset.device == "cpu" else None,
            max_num_batched_tokens=max(preset.rollout.max_batched_tokens, longest),
            limit_mm_per_prompt={"video": 1, "audio": 1, "image": 0},
            # The forms of a clip share one run of vLLM's processor. As in conf/ppo.yaml, not with the audio inside the
            # video: a cached sound beside a new video then counts as "Video doesn't have audio track" (vLLM 0.28.0).
            mm_processor_cache_gb=0 if media.use_audio_in_video else preset.rollout.media_cache_gb,
        )

    def __call__(self, requests: Sequence[Request]) -> list[Reply]:
        """Answer a batch, in its order.

        Raises:
            MediaError: a clip is missing or cannot be decoded.
            TooLongError: names the clip and the limit.
        """
        prompts = [self._prompt(request) for request in requests]
        sampling = [self._sampling(request) for request in requests]
        outputs = self.llm.generate(prompts, sampling, use_tqdm=False)
        return [self._reply(request, output) for request, output in zip(requests, outputs, strict=True)]

    def stream(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Reply | Failure]]:
        """Answer any number of requests; each is yielded when it is done, so in another order.

        vLLM's queue is filled as places come free, and a thread decodes what comes next. Requests of one clip should
        follow one another: it is decoded once for them.

        Raises:
            ValueError, or vLLM's own error: the settings of the sampling are wrong, which is no fault of a clip.
        """
        rejections = _rejections()
        prepared = ahead(self._prepare, requests, _AHEAD)
        waiting: dict[str, Request] = {}
        more = True
        while more or waiting:
            if more and len(waiting) < self.in_flight:
                item = next(prepared, None)
                more = item is not None
                if item is not None and isinstance(item[1], Failure):
                    yield item[0], item[1]
                elif item is not None:
                    sampling = self._sampling(item[0])
                    try:
                        key = self.llm.enqueue([item[1]], [sampling], use_tqdm=False)[0]
                    except rejections as error:  # this prompt's; an engine that is dead says so otherwise
                        yield item[0], Failure(f"vLLM rejects the prompt: {error}")
                        continue
                    # vLLM appends a random part to the id that its outputs bear.
                    waiting[key.partition("-")[0]] = item[0]
            if waiting:
                for output in self.llm.llm_engine.step():
                    if output.finished:
                        request = waiting.pop(output.request_id)
                        yield request, self._reply(request, output)

    def _prepare(self, request: Request) -> tuple[Request, dict[str, Any] | Failure]:
        try:
            return request, self._prompt(request)
        except (MediaError, TooLongError) as error:
            return request, Failure(str(error))
        except Exception as error:  # one clip must not end the run, and every run that goes on from it
            return request, Failure(f"{type(error).__name__}: {error}")

    def trace(self, request: Request) -> Trace:
        """One answer in numbers, to be compared with those of transformers. Raises as a call does."""
        sampling = self._sampling(request)
        sampling.logprobs = 0  # of the sampled token alone
        output = self.llm.generate([self._prompt(request)], [sampling], use_tqdm=False)[0]
        answer = output.outputs[0]
        token_ids = list(answer.token_ids)
        log_probs = [at[token].logprob for at, token in zip(answer.logprobs, token_ids, strict=True)]
        return Trace(list(output.prompt_token_ids), token_ids, log_probs)

    def _prompt(self, request: Request) -> dict[str, Any]:
        from verl_ext.models.processor import collapse_media

        encoded, prompt_ids = encoded_prompt(request.row, request.prefix, self.form, self.encoder, self.max_prompt)
        media = {"video": encoded.videos, "audio": encoded.audios}
        return {
            "prompt_token_ids": collapse_media(prompt_ids, self.processor),
            "multi_modal_data": {kind: items for kind, items in media.items() if items},
            "mm_processor_kwargs": encoded.processor_kwargs,
        }

    def _sampling(self, request: Request) -> Any:
        from vllm import SamplingParams

        return SamplingParams(
            temperature=request.temperature,
            max_tokens=self.max_tokens,
            seed=request.seed if request.temperature > 0 else None,
            logit_bias=self.bias,
            detokenize=False,
        )

    def _reply(self, request: Request, output: Any) -> Reply:
        answer = output.outputs[0]
        return Reply(
            text=request.prefix + self.tokenizer.decode(answer.token_ids, skip_special_tokens=True),
            tokens=len(answer.token_ids),
            finished=answer.finish_reason == "stop",
            prompt_tokens=len(output.prompt_token_ids),
            cached_tokens=output.num_cached_tokens or 0,
        )


def _rejections() -> tuple[type[Exception], ...]:
    """What vLLM raises for a prompt that it does not take: ValueError, and since 0.28.0 mostly an error of its own."""
    from vllm import exceptions

    own = getattr(exceptions, "VLLMClientError", None)
    return (ValueError, own) if own else (ValueError,)


def encoded_prompt(
    row: Mapping[str, Any], prefix: str, form: str, encoder: PromptEncoder, limit: int
) -> tuple[EncodedPrompt, list[int]]:
    """A clip's prompt in a form, and its token ids with the prefix of the reply.

    Args:
        limit: of the ids.

    Raises:
        MediaError: the clip is missing or cannot be decoded.
        TooLongError: names the clip and the limit.
    """
    from verl_ext.data.dataset import build_messages

    encoded = encoder(build_messages(asked(row, form)))
    prompt_ids = encoded.prompt_ids + encoder.processor.tokenizer.encode(prefix, add_special_tokens=False)
    if len(prompt_ids) > limit:
        raise TooLongError(
            f"clip {_name(row)!r}: the prompt has {len(prompt_ids)} tokens, over max_prompt_length={limit}. Raise the "
            "limit, or lower media.fps, media.max_frames or media.max_pixels (keys of the preset)."
        )
    return encoded, prompt_ids


def asked(row: Mapping[str, Any], form: str) -> Mapping[str, Any]:
    """The row with a prompt that asks for the form, as RL's dataset asks for it.

    Raises:
        ValueError: names the clip whose prompt does not end with the instruction of the default form.
    """
    if form == ONE_ANSWER:
        return row
    *before, last = row["prompt"]
    try:
        return {**row, "prompt": [*before, {**last, "content": ask_for(form, last["content"])}]}
    except ValueError as error:
        raise ValueError(f"clip {_name(row)!r}: {error}") from error


def _name(row: Mapping[str, Any]) -> str:
    return (row.get("extra_info") or {}).get("name") or "unnamed"


def ahead(make: Callable[[Item], Made], items: Iterable[Item], depth: int) -> Iterator[Made]:
    """`map(make, items)`, computed in one thread up to `depth` items ahead of the consumer."""
    with ThreadPoolExecutor(1) as pool:
        running: deque[Future[Made]] = deque()
        for item in items:
            running.append(pool.submit(make, item))
            if len(running) > depth:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
