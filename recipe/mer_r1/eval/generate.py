"""Slow and fast answers of a model to the clips of one shard: what is missing is asked for, what comes is kept."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recipe.mer_r1.eval import records
from recipe.mer_r1.eval.answer_modes import MODES, PREFIXES, SAMPLED
from recipe.mer_r1.eval.clip_sets import ClipSet
from recipe.mer_r1.eval.official import official
from recipe.mer_r1.files.provenance import git_state, versions
from recipe.mer_r1.files.whole import write_whole
from recipe.mer_r1.method.answer import ONE_ANSWER, TWO_ANSWERS
from recipe.mer_r1.method.wheel import EmotionWheels
from recipe.mer_r1.run import launch
from recipe.mer_r1.run.preset_types import wrong_values

if TYPE_CHECKING:
    from recipe.mer_r1.eval.rollout import Failure, Reply, Request, Rollout

_PAIRS = {"slow": "fast", f"slow{SAMPLED}": f"fast{SAMPLED}"}
_STRIDE = 15_485_863
"""Between the seeds of two samples of a clip: larger than 4 seeds for each clip of any shard, and odd, so that the
lowest 32 bits differ too (random numbers on a CPU depend on these bits only)."""
Asked = tuple[str, int, int]
"""A response to make: its mode, the row of the shard, and the number of the sample, from 0."""
_LIBRARIES = ("mer-r1", "verl", "vllm", "transformers", "torch")


def load_preset(name: str, changes: Sequence[str]) -> DictConfig:
    """The `preset` node with changes such as `media.fps=1` put in.

    Raises:
        ValueError: no such preset, no such key, or a value of another type.
    """
    path = launch.CONF / "preset" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml")))
        raise ValueError(f"--preset {name}: no such preset; use one of {known}")
    config = OmegaConf.create({"preset": OmegaConf.load(path)})
    OmegaConf.set_struct(config, True)
    try:
        for change in changes:
            key, separator, value = change.partition("=")
            if not separator:
                raise ValueError(f"--set {change}: write KEY=VALUE")
            if re.fullmatch(r"[+-]?0\d+", value):  # YAML reads 010 as 8
                raise ValueError(f"--set {change}: a number has no leading 0; write {key}={int(value)}")
            OmegaConf.select(config.preset, key, throw_on_missing=True)
            config.preset.merge_with_dotlist([change])
    except OmegaConfBaseException as error:
        raise ValueError(f"--set {change}: the preset has no such key ({str(error).splitlines()[0]})") from error
    if wrong := list(wrong_values(config.preset)):
        raise ValueError(f"{'--set' if changes else f'--preset {name}'}: {'; '.join(wrong)}")
    return config.preset


def settings(
    arguments: argparse.Namespace,
    preset: DictConfig,
    identity: dict[str, str],
    weights: str,
    clips: ClipSet,
    form: str = ONE_ANSWER,
) -> dict[str, Any]:
    """What decides the answers and their scores, and where things lie (`records.PLACES`).

    Args:
        form: of a response.
        identity: of the wheels.
        weights: fingerprint of the model's weights.
    """
    return {
        "model": str(Path(arguments.model).resolve()),
        "shard": str(clips.shard),
        "media_root": arguments.media_root and str(arguments.media_root.resolve()),
        "weights_sha256": weights,
        "corpus": clips.corpus,
        "split": clips.split,
        "n_shard": clips.n,
        "clips_sha256": clips.sha256,
        "form": form,
        "temperature": arguments.temperature,
        "max_tokens": arguments.max_tokens or preset.max_response_length,
        "max_prompt_length": preset.max_prompt_length,
        # Not where decoded clips are kept: that changes no answer.
        "media": {
            key: value
            for key, value in OmegaConf.to_container(preset.media, resolve=True).items()
            if not key.startswith("cache_")
        },
        "dtype": preset.rollout.dtype,
        "seed": preset.seed,
        "wheels": identity,
    }


class FewerSamplesError(ValueError):
    """The folder holds more answers per clip than were asked for."""


class Generation:
    """The answers of one shard's clips in some modes, in a folder: FOLDER/slow.jsonl and the like, a line an answer.

    A model of the form answer_think_answer is asked once for both modes of a pair: its last answer is the slow one, its
    first answer the fast one. Such a pair is always complete: the fast file is made of the slow file.

    Answers that workers have left in the folder (`eval/workers.py`) are joined with its own first.

    Args:
        folder: claimed for these settings (`records.claim`).
        modes: of MODES.
        temperature: of slow and fast.
        seed: of the run; every answer has one of its own, whatever is asked beside it.
        samples: answers per clip in the modes that end in `_sampled`; the other modes have one.
        form: of a response.
        part: numbers of the shard's rows to be answered; None: all. An answer does not depend on the part.

    Raises:
        FewerSamplesError: the folder holds more answers per clip.
    """

    def __init__(
        self,
        folder: Path,
        clips: ClipSet,
        modes: Sequence[str],
        temperature: float,
        seed: int,
        wheels: EmotionWheels,
        samples: int = 1,
        form: str = ONE_ANSWER,
        part: range | None = None,
    ):
        self.folder, self.clips, self.wheels, self.form = folder, clips, wheels, form
        self.part = range(len(clips.rows)) if part is None else part
        twice = form == TWO_ANSWERS
        self.pairs = {slow: fast for slow, fast in _PAIRS.items() if twice and {slow, fast} & {*modes}}
        """Of the form with two answers: the modes to ask in, and the mode that each one's first answers belong to."""
        self.modes = tuple(mode for pair in self.pairs.items() for mode in pair) if twice else tuple(modes)
        asked = tuple(self.pairs) if twice else self.modes
        self.temperature, self.seed = temperature, seed
        self.files = {mode: folder / f"{mode}.jsonl" for mode in self.modes}
        self.samples = {mode: samples if mode.endswith(SAMPLED) else 1 for mode in asked}
        self.total = len(self.part) * sum(self.samples.values())
        self.made = 0
        """Responses that this process and its workers have written."""
        records.join(folder)
        for mode, number in self.samples.items():
            file = self.files[mode]
            there = 1 + max((sample for _, sample in records.read(file)), default=0)
            if there > number:
                raise FewerSamplesError(
                    f"{file} holds {there} answers per clip, more than --samples {samples}. Use --samples {there} or "
                    "more, or choose another --out."
                )

    def missing(self) -> list[Asked]:
        """Mode, row number and sample number of each response that is not there, all responses to a clip together."""
        self._complete_pairs()
        done = {mode: records.read(self.files[mode]).keys() for mode in self.samples}
        return [
            (mode, index, sample)
            for index in self.part
            for mode in self.samples
            for sample in range(self.samples[mode])
            if (index, sample) not in done[mode]
        ]

    def _complete_pairs(self) -> None:
        """Make the fast files anew where they do not have the answers of the slow files, as after a kill."""
        for slow, fast in self.pairs.items():
            lines = records.read(self.files[slow])
            if lines.keys() != records.read(self.files[fast]).keys():
                records.rewrite(self.files[fast], (records.first_answer(line, self.wheels) for line in lines.values()))

    def forget_failures(self) -> int:
        """Take the lines of clips that failed out of the files, so that they are missing; their number."""
        count = 0
        for file in (self.files[mode] for mode in self.samples):
            lines = records.read(file).values()
            kept = [line for line in lines if "failed" not in line]
            if len(kept) < len(lines):
                records.rewrite(file, kept)
                count += len(lines) - len(kept)
        return count

    def __call__(self, rollout: Rollout, tell: Callable[[], None], asked: Sequence[Asked] | None = None) -> None:
        """Write each answer as it comes, a failed one with its reason; `tell` is called for each.

        Args:
            asked: what to answer; None: all that is missing.
        """
        for request, reply in rollout.stream(
            self._request(*one) for one in (self.missing() if asked is None else asked)
        ):
            mode, line = request.key[0], self._line(request, reply)
            records.append(self.files[mode], [line])
            if mode in self.pairs:
                records.append(self.files[self.pairs[mode]], [records.first_answer(line, self.wheels)])
            self.made += 1
            tell()

    def _request(self, mode: str, index: int, sample: int = 0) -> Request:
        from recipe.mer_r1.eval.rollout import Request

        return Request(
            self.clips.rows[index],
            PREFIXES[mode.removesuffix(SAMPLED)],
            1.0 if mode.endswith(SAMPLED) else self.temperature,
            self.seed + len(MODES) * index + MODES.index(mode) + _STRIDE * sample,
            key=(mode, index, sample),
        )

    def _line(self, request: Request, reply: Reply | Failure) -> dict[str, Any]:
        from recipe.mer_r1.eval.rollout import Failure

        _, index, sample = request.key
        if isinstance(reply, Failure):
            return records.failure(request.row, index, reply.reason, self.wheels, sample, self.form)
        return records.record(request.row, index, reply.text, self.wheels, sample, self.form) | {
            "tokens": reply.tokens,
            "finished": reply.finished,
            "prompt_tokens": reply.prompt_tokens,
            "cached_tokens": reply.cached_tokens,
        }

    def lines(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """The answers so far, mode by mode, in the shard's order, the samples of a clip together."""
        for mode, file in self.files.items():
            found = records.read(file)
            yield mode, [found[key] for key in sorted(found) if key[0] in self.part]

    def write_scores(self, chosen: dict[str, Any], seconds: float) -> dict[str, dict[str, Any]]:
        """Write FOLDER/scores.json; the means by mode.

        `starts` names what made the answers, an entry for each run that made some.

        Args:
            chosen: the settings.
            seconds: that this run took for all its shards.
        """
        path = self.folder / "scores.json"
        starts = json.loads(path.read_bytes()).get("starts", []) if path.exists() else []
        if self.made or not starts:
            starts.append(
                {
                    "answers": self.made,
                    "seconds": round(seconds, 1),
                    "git": git_state(),
                    "versions": versions(*_LIBRARIES),
                }
            )
        scores = {
            mode: official(lines, self.clips.corpus, self.wheels) | records.means(lines) for mode, lines in self.lines()
        }
        summary = {"modes": scores, "settings": chosen, "starts": starts}
        write_whole(path, json.dumps(summary, indent=1).encode() + b"\n")
        return scores
