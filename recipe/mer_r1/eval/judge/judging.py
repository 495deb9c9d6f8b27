"""Judging answers: two calls each, several answers at a time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from recipe.mer_r1.eval.judge import prompts
from recipe.mer_r1.eval.judge.cache import Reply, Request
from recipe.mer_r1.eval.judge.client import AskError, Client
from recipe.mer_r1.eval.judge.frames import data_urls
from recipe.mer_r1.eval.judge.questions import Question
from recipe.mer_r1.eval.judge.replies import UnparseableError, read_scores, read_steps
from recipe.mer_r1.eval.judge.verdict import Verdict
from recipe.mer_r1.eval.judge.workers import for_each
from verl_ext.data.source import MediaError


@dataclass
class Judge:
    """Who judges, and what it has been called by the endpoint."""

    client: Client
    endpoint: str
    judge_model: str
    extractor_model: str
    seed: int | None = None
    served: Counter[str] = field(default_factory=Counter)

    async def all(
        self, questions: Sequence[Question], concurrency: int, done: Callable[[Verdict], object]
    ) -> list[Verdict]:
        """The verdicts, in the questions' order; `done` is told of each as it comes.

        Raises:
            StopError: the endpoint refuses everything, or is down.
        """
        verdicts: dict[int, Verdict] = {}

        async def one(question: Question) -> None:
            verdicts[question.index] = verdict = await self.one(question)
            done(verdict)

        await for_each(questions, one, concurrency)
        return [verdicts[question.index] for question in questions]

    async def one(self, question: Question) -> Verdict:
        """An answer's verdict.

        Raises:
            StopError: as `all`.
        """
        common = {"index": question.index, "name": question.name, "task": question.task}
        if question.failed is not None:  # wrong, and nothing to ask about
            reason = f"no response: {question.failed}"
            return Verdict(**common, status="scored", recognition=0.0, reasoning=0.0, reason=reason)
        steps: list[str] = []
        try:
            reply = await self._ask(self.extractor_model, prompts.extraction(question.response))
            steps = read_steps(reply.text)
            multi = question.task in prompts.MULTI_LABEL_TASKS
            frames = await asyncio.to_thread(data_urls, question.clip)
            messages = prompts.rating(steps, question.labels, question.clue, frames, multi=multi)
            reply = await self._ask(self.judge_model, messages)
            rating = read_scores(reply.text, len(steps), len(question.labels) if multi else None)
        except UnparseableError as error:
            ended = "" if reply.finish in (None, "stop") else f"; the reply ended with {reply.finish!r}"
            return Verdict(**common, status="unparseable", steps=steps, reason=f"{error}{ended}")
        except (AskError, MediaError) as error:
            return Verdict(**common, status="failed", steps=steps, reason=str(error))
        return Verdict(
            **common,
            status="scored",
            steps=steps,
            scores=[str(score) for score in rating.scores],
            recognition=float(rating.recognition),
            reasoning=float(rating.reasoning),
        )

    async def _ask(self, model: str, messages: prompts.Messages) -> Reply:
        reply = await self.client.ask(Request(self.endpoint, model, messages, seed=self.seed))
        self.served[reply.served or model] += 1
        return reply
