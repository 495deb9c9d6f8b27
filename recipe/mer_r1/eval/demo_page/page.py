"""What happens on the page: clips in, HTML out. No gradio, so that it can be tested without a browser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from recipe.mer_r1.eval.demo_page import clips, markup
from recipe.mer_r1.eval.demo_page.view import LogConfidence, view
from recipe.mer_r1.eval.rollout import Reply, TooLongError
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.method.wheel import EmotionWheels
from verl_ext.data.demux import MediaError
from verl_ext.data.prompt_text import PromptTextError

EMPTY = markup.waiting("Upload a clip with sound, add the spoken words if you know them, and press Answer.")


class Model(Protocol):
    """What the page asks of a model."""

    use_audio_in_video: bool

    def answers(self, row: Mapping[str, Any]) -> dict[str, Reply]:
        """A reply by form."""

    def confidence(self, row: Mapping[str, Any], replies: Mapping[str, Reply]) -> dict[str, LogConfidence]:
        """Log-confidences by form, where the reply's first word begins."""


@dataclass(frozen=True)
class Results:
    """Of one clip; `confidence` is None until it has been read."""

    labels: tuple[str, ...]
    replies: Mapping[str, Reply]
    confidence: Mapping[str, LogConfidence] | None = None


class Page:
    """The page's behaviour.

    Args:
        model: answers.
        wheels: whose level-1 categories are shown.
        rows: of a shard, to choose clips from; empty: uploads only.
        folder: for copies of the shard's clips.
    """

    def __init__(self, model: Model, wheels: EmotionWheels, rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
        self.model, self.wheels, self.rows, self.folder = model, wheels, rows, folder

    def answer(self, video: str | None, subtitle: str, chosen: int | None, wheel: str) -> Iterator[tuple]:
        """The results so far, as state and HTML of answers and bars: first the answers, then the confidences too."""
        if video is None and chosen is None:
            yield None, markup.problem("There is no clip. Upload a video with sound."), ""
            return
        yield None, markup.waiting("Decoding the clip and answering …"), ""
        try:
            row = self._row(video, subtitle, chosen)
            replies = self.model.answers(row)
        except (MediaError, TooLongError, clips.SubtitleError, PromptTextError, InputError) as error:
            yield None, markup.problem(self._named(str(error), video)), ""
            return
        results = Results(tuple(row["reward_model"]["ground_truth"]), replies)
        yield results, *self.show(results, wheel)
        try:
            results = replace(results, confidence=self.model.confidence(row, replies))
        except FloatingPointError as error:
            yield results, self.show(results, wheel)[0], markup.problem(str(error))
            return
        yield results, *self.show(results, wheel)

    def show(self, results: Results | None, wheel: str) -> tuple[str, str]:
        """HTML of the answers and of the bars on a wheel."""
        if results is None:
            return EMPTY, ""
        found = view(results.replies, results.confidence or {}, results.labels, self.wheels, wheel)
        pending = results.confidence is None
        return markup.answers(found), markup.waiting("Computing the confidences …") if pending else markup.bars(found)

    def choose(self, index: int | None) -> tuple[str | None, str]:
        """Video and subtitle of one of the shard's clips."""
        if index is None:
            return None, ""
        path = clips.playable(self.rows, index, self.folder)
        return path and str(path), self.rows[index]["extra_info"].get("subtitle") or ""

    def _row(self, video: str | None, subtitle: str, chosen: int | None) -> dict[str, Any]:
        if chosen is not None:
            return clips.with_subtitle(self.rows[chosen], subtitle)
        return clips.uploaded(Path(video), subtitle.strip(), self.model.use_audio_in_video)

    def _named(self, message: str, video: str | None) -> str:
        """A message that calls an upload by its name, not by where the server keeps it."""
        return message.replace(video, Path(video).name) if video else message
