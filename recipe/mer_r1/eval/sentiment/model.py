"""Sentiment by a language model: it picks one of three words, and is asked again where it says something else."""

from __future__ import annotations

import string
from collections import Counter
from dataclasses import dataclass, field

from recipe.mer_r1.eval.judge.cache import Request
from recipe.mer_r1.eval.judge.client import Client
from recipe.mer_r1.eval.sentiment.mapped import Mapped
from recipe.mer_r1.eval.sentiment.prompts import SENTIMENTS, again, question, wording_hash

REMINDERS = 2
"""How often a model that said something else is asked again."""

_AROUND = string.punctuation + string.whitespace + "“”‘’。"


def read_reply(reply: str) -> str:
    """The reply in lower case, without the quotes and punctuation around it."""
    return reply.strip(_AROUND).lower()


@dataclass
class Model:
    """Who is asked and how, and what it has been called by the endpoint."""

    client: Client
    endpoint: str
    name: str
    wording: str
    temperature: float = 0.0
    seed: int | None = None
    served: Counter[str] = field(default_factory=Counter)

    async def map_words(self, name: str, words: list[str]) -> Mapped:
        """An answer's sentiment; no words are neutral, and nobody is asked.

        Raises:
            AskError: there was no reply.
            StopError: there will be none to anything.
        """
        if not words:
            return Mapped(name, words, "neutral", "empty")
        messages = question(self.wording, words)
        replies: list[str] = []
        while len(replies) <= REMINDERS:
            if replies:
                messages = again(messages, replies[-1])
            replies.append(await self._ask(messages))
            found = read_reply(replies[-1])
            if found in SENTIMENTS:
                return Mapped(name, words, found, *(("asked_again", tuple(replies)) if len(replies) > 1 else ()))
            if found == "mixed":
                return Mapped(name, words, "neutral", "mixed", tuple(replies))
        return Mapped(name, words, "neutral", "unmapped", tuple(replies))

    async def _ask(self, messages: list[dict[str, str]]) -> str:
        wording = wording_hash(self.wording)
        request = Request(self.endpoint, self.name, messages, self.temperature, self.seed, prompt=wording)
        reply = await self.client.ask(request)
        self.served[reply.served or self.name] += 1
        return reply.text
