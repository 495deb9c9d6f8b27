"""Asking an OpenAI-compatible endpoint: cached, rate-limited, tried again a bounded number of times."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from recipe.mer_r1.eval.judge.cache import Reply, ReplyCache, Request
from recipe.mer_r1.eval.judge.limiter import Limiter
from recipe.mer_r1.files.errors import InputError

_TRY_AGAIN = (408, 409, 425, 429)  # and 5xx
_NEVER = (401, 403, 404)
_SHOWN = 300
_SECRET_LENGTH = 8
"""Shorter keys are stand-ins such as EMPTY: taking them out of replies would mangle words."""


class AskError(Exception):
    """A call that finally failed; the message is the reason."""


class StopError(InputError):
    """No call can succeed: the key, the model's name or the endpoint is wrong."""


@dataclass(frozen=True)
class Policy:
    """How patiently calls are made; seconds.

    A wait is drawn from [½, 1] × first_wait_s × 2^(attempt − 1), at most longest_wait_s, or is what the endpoint asks
    for, but no longer than longest_hold_s.
    """

    attempts: int = 6
    first_wait_s: float = 2.0
    longest_wait_s: float = 60.0
    longest_hold_s: float = 900.0
    timeout_s: float = 120.0
    failures_in_a_row: int = 32
    """So many calls that finally failed, with no reply between: the endpoint is down, and thousands would take days."""

    def backoff(self, attempt: int) -> float:
        """Seconds after attempt number `attempt` (from 1) if the endpoint asks for none."""
        return min(self.longest_wait_s, self.first_wait_s * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)


POLICY = Policy()


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Body(BaseModel):
    """The part of a chat completion that is read, strictly: the `openai` package takes any JSON for one."""

    choices: list[_Choice] = Field(min_length=1)
    model: str | None = None


class _Retriable(Exception):
    """One attempt failed. `wait_s` is what the endpoint asked for."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Client:
    """Calls of one run.

    Args:
        endpoint: base URL, which mostly ends in /v1.
        key: of the account; it leaves this object in the Authorization header alone.
        cache: open.
        limiter: shared by all calls.
        policy: of waiting.

    Raises:
        InputError: the package `openai` is not installed.
    """

    def __init__(self, endpoint: str, key: str, cache: ReplyCache, limiter: Limiter, policy: Policy) -> None:
        try:
            import openai
        except ImportError as error:
            raise InputError("a model as judge or mapper needs the package openai: pip install -e '.[eval]'") from error
        self._openai, self._key = openai, key
        self._api = openai.AsyncOpenAI(base_url=endpoint, api_key=key, max_retries=0, timeout=policy.timeout_s)
        self._cache, self._limiter, self._policy = cache, limiter, policy
        self._failed_in_a_row = 0
        # Equal requests that come at once wait for one another: the second finds the first one's reply.
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def ask(self, request: Request) -> Reply:
        """The reply, from the cache if it is there.

        Raises:
            AskError: the endpoint refuses this request, or all attempts failed.
            StopError: it refuses every request, or is down.
        """
        async with self._asking[request.key]:
            reply = self._cache.get(request)
            if reply is None:
                reply = await self._insist(request)
                self._cache.put(request, reply)
                self._failed_in_a_row = 0
            return reply

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def _insist(self, request: Request) -> Reply:
        for attempt in range(1, self._policy.attempts + 1):
            await self._limiter.turn()
            try:
                return await self._attempt(request)
            except _Retriable as error:
                reason, asked_s = str(error), error.wait_s
            if attempt == self._policy.attempts:
                break
            if asked_s is None:
                await asyncio.sleep(self._policy.backoff(attempt))
            elif asked_s > self._policy.longest_hold_s:
                reason += f"; the endpoint asks to wait {asked_s:.0f} s, over {self._policy.longest_hold_s:.0f} s"
                raise self._finally_failed(reason)
            else:
                self._limiter.hold(asked_s)  # it holds for everybody
                await asyncio.sleep(asked_s)
        raise self._finally_failed(f"{reason}; failed {self._policy.attempts} times")

    def _finally_failed(self, reason: str) -> Exception:
        self._failed_in_a_row += 1
        if self._failed_in_a_row < self._policy.failures_in_a_row:
            return AskError(reason)
        return StopError(
            f"{self._failed_in_a_row} calls in a row got no reply ({reason}); the endpoint seems to be down"
        )

    async def _attempt(self, request: Request) -> Reply:
        """One call. Errors of the package are replaced, not chained: they hold the request with its header."""
        openai = self._openai
        try:
            # The package's time limit is for a single read: a reply that trickles in would never end.
            async with asyncio.timeout(self._policy.timeout_s):
                raw = await self._api.chat.completions.with_raw_response.create(**request.body())
            return self._read(raw.content)
        except (openai.APITimeoutError, TimeoutError):
            raise _Retriable(f"no reply within {self._policy.timeout_s:g} s") from None
        except openai.APIConnectionError as error:
            cause = error.__cause__
            detail = f"{type(cause).__name__}: {cause}" if cause else str(error)
            raise _Retriable(self._without_key(f"the connection failed or was lost ({detail})")[:_SHOWN]) from None
        except openai.APIStatusError as error:
            raise self._refusal(error) from None

    def _read(self, content: bytes) -> Reply:
        try:
            body = _Body.model_validate_json(content)
        except ValidationError as error:
            shown = " ".join(content.decode(errors="replace").split())
            reason = f"the reply is not a chat completion ({error.errors()[0]['msg']}): {shown}"
            raise _Retriable(self._without_key(reason)[:_SHOWN]) from None
        choice = body.choices[0]
        texts = (choice.message.content, choice.finish_reason, body.model)
        text, finish, served = (value and self._without_key(value) for value in texts)
        return Reply(text or "", finish, served)

    def _refusal(self, error: Any) -> Exception:
        status = error.status_code
        # Cut after the key is out: half a key would not be recognised.
        reason = self._without_key(f"HTTP {status}: {' '.join(error.response.text.split())}")[:_SHOWN]
        if status in _NEVER:
            return StopError(f"the endpoint refuses all requests ({reason}); check --endpoint, the key and the models")
        if status in _TRY_AGAIN or status >= 500:
            return _Retriable(reason, retry_after(error.response.headers.get("retry-after")))
        return AskError(reason)

    def _without_key(self, text: str) -> str:
        """Some endpoints repeat the key in their messages."""
        return text.replace(self._key, "[key]") if len(self._key) >= _SECRET_LENGTH else text


def retry_after(header: str | None) -> float | None:
    """Seconds to wait by a Retry-After header, a number or a date; None where there is none that can be read."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time()
        except ValueError:
            return None
    return max(seconds, 0.0) if seconds == seconds else None
