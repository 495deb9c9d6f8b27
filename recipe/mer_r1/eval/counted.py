"""How far an evaluation's answers are, for the screen."""

from __future__ import annotations

import time

from recipe.mer_r1.pipeline.progress import Status, in_words


class Counted:
    """How far the answers are."""

    def __init__(self) -> None:
        self.doing = "checking the clips"
        self.done = self.before = self.total = 0
        self.start = 0.0

    def begin(self, total: int, done: int) -> None:
        """The model is loaded: from here on, answers come."""
        self.done, self.before, self.total, self.doing = done, done, total, "first answers"
        self.start = time.monotonic()

    def one_more(self) -> None:
        self.done += 1

    def of_workers(self, total: int, before: int, made: int) -> None:
        """As `begin`, once the first answers of several processes are there, then how many there are.

        Args:
            before: answers that were there when the processes started.
            made: by the processes.
        """
        if made and not self.total:
            self.begin(total, before + made)
        elif made:
            self.done = before + made

    def status(self) -> Status:
        """For the screen."""
        made, seconds = self.done - self.before, time.monotonic() - self.start
        if not made:
            return Status(text=self.doing, phase=self.doing)
        left = in_words((self.total - self.done) * seconds / made)
        text = f"{self.done}/{self.total} answers  {made / seconds:.1f} per s  {left} left"
        return Status(self.done, self.total, text, phase="answers")
