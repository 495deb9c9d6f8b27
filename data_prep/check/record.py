"""Writing down what was found: facts to be remembered, clips and verdicts of this run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from data_prep.check import verdicts
from data_prep.check.decode import Facts
from data_prep.check.look import Look, Seen
from data_prep.check.pool import Lost
from data_prep.check.results import Results
from data_prep.check.verdicts import Limits, Media
from data_prep.clip import Clip, CorpusError

CountTokens = Callable[[Clip, Media], int]
Found = list[tuple[bytes, Facts]]
"""Hash and facts of each of a clip's files."""


@dataclass(frozen=True, slots=True)
class ClipTask:
    """A clip with its files to look at; `part` is "train" or "test"."""

    number: int
    part: str
    clip: Clip
    looks: tuple[Look, ...]


@dataclass(frozen=True, slots=True)
class HeldTask:
    """A row of a held-out shard, with its video to be hashed or the hash of one that lies in the shard."""

    shard: str
    name: str
    looks: tuple[Look, ...]
    sha: bytes = b""


Task = ClipTask | HeldTask


@dataclass
class Recorder:
    """Takes what is found about tasks; counts files that were decoded and files that were known."""

    results: Results
    limits: Limits
    count_tokens: CountTokens | None
    step: Callable[[], None]
    """Called for every clip that is done."""
    decoded: int = 0
    remembered: int = 0

    def unknown(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, tuple[Look, ...]]]:
        """The tasks with files to look at; those whose files are all remembered are written down at once."""
        for task in tasks:
            known = [found for look in task.looks if (found := self.results.remembered(look))]
            if len(known) < len(task.looks):
                yield task, task.looks
            else:
                self.remembered += len(known)
                self._record(task, known)

    def found(self, task: Task, outcome: list[Seen] | Lost) -> None:
        """Write down what a worker found. Raises CorpusError for a held-out clip that cannot be read."""
        if isinstance(outcome, Lost):
            self._lost(task, outcome)
            return
        for look, seen in zip(task.looks, outcome, strict=True):
            self.results.remember(look, seen)
            self.decoded += seen.decoded
            self.remembered += not seen.decoded
        self._record(task, [(seen.sha, seen.facts) for seen in outcome])

    def _lost(self, task: Task, lost: Lost) -> None:
        if isinstance(task, HeldTask):
            raise CorpusError(
                f"--held-out {task.shard}: {task.looks[0].path} cannot be read ({lost.detail}); "
                "copy or download it again"
            )
        # Not remembered: a busy machine or a lack of memory may have been the reason.
        self._metadata(task)
        self._add(task.number, lost.kind, verdicts.lost(task.clip, task.looks, lost))
        self._clip(task, Media(None, None), b"", None)

    def _record(self, task: Task, found: Found) -> None:
        if isinstance(task, HeldTask):
            sha = task.sha or found[0][0]
            if not sha:
                raise CorpusError(
                    f"--held-out {task.shard}: {task.looks[0].path} cannot be read; copy or download it again"
                )
            self.results.add("held", sha, task.name, task.shard)
            return
        pairs = list(zip(task.looks, found, strict=True))
        video = next(((look.path, sha, facts) for look, (sha, facts) in pairs if look.want != "audio"), None)
        audio = next(((look.path, facts) for look, (_, facts) in pairs if look.want != "video"), None)
        media = Media((video[0], video[2]) if video else None, audio)
        self._metadata(task)
        dropped = False
        for kind, message in verdicts.of_media(task.clip, media, self.limits):
            dropped |= verdicts.severity(kind) == "drop"
            self._add(task.number, kind, message)
        countable = video and audio and not dropped
        self._clip(task, media, video[1] if video else b"", self._tokens(task, media) if countable else None)

    def _metadata(self, task: ClipTask) -> None:
        for fault in task.clip.faults:
            self._add(task.number, fault.kind, fault.message)

    def _tokens(self, task: ClipTask, media: Media) -> int | None:
        if self.count_tokens is None:
            return None
        try:
            tokens = self.count_tokens(task.clip, media)
        except ValueError as error:
            self._add(task.number, "no_prompt", verdicts.no_prompt(task.clip, error))
            return None
        for kind, message in verdicts.of_tokens(task.clip, tokens, self.limits):
            self._add(task.number, kind, message)
        return tokens

    def _clip(self, task: ClipTask, media: Media, sha: bytes, tokens: int | None) -> None:
        clip, seconds = task.clip, verdicts.seconds(media)
        video = str(clip.video or "")
        self.results.add(
            "clip", task.number, task.part, clip.group, clip.name, clip.where, video, sha or None, seconds, tokens
        )
        self.step()

    def _add(self, number: int, kind: str, message: str) -> None:
        self.results.add("verdict", number, kind, verdicts.severity(kind), message)
