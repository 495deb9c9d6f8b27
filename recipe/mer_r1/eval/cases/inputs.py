"""Answers of two models to the same clips, refused where they cannot be compared, and the clips' rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recipe.mer_r1.eval.answers import Answer, RunSettings, read_answers, result_folders
from recipe.mer_r1.eval.measure import measure
from recipe.mer_r1.eval.results import Result, why_not_comparable
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.method.wheel import EmotionWheels

MODES = ("slow", "fast")
_COLUMNS = ("videos", "reward_model", "extra_info")


@dataclass(frozen=True)
class Pair:
    """One model's answers to a clip."""

    slow: Answer
    fast: Answer


@dataclass(frozen=True)
class Clip:
    """A clip and the answers of two models; `index` is its row in the shard."""

    index: int
    name: str
    labels: list[str]
    baseline: Pair
    mer_r1: Pair

    def exchanged(self) -> Clip:
        """The same with the models in each other's place."""
        return replace(self, baseline=self.mer_r1, mer_r1=self.baseline)


@dataclass(frozen=True)
class Comparison:
    """What cases are looked for in.

    Attributes:
        clips: those that can be cases, in the shard's order.
        unmapped: number of other clips whose labels map on no wheel.
        unanswered: number of other clips where one of the four answers has no word: nothing was dropped there on
            purpose.
        results: of the slow answers, baseline first.
        settings: of the baseline's run.
    """

    clips: list[Clip]
    unmapped: int
    unanswered: int
    results: tuple[Result, Result]
    settings: RunSettings

    @property
    def total(self) -> int:
        """Number of all clips."""
        return len(self.clips) + self.unmapped + self.unanswered


def compare(baseline: Path, mer_r1: Path, wheels: EmotionWheels, *, wheels_named: bool) -> Comparison:
    """Join the answers of two folders.

    Args:
        wheels_named: whether the user chose the wheels; else they must be those of the runs.

    Raises:
        InputError: a folder cannot be used or lacks slow or fast answers, or they are not of the same clips, labels,
            prompts and settings; names what differs.
    """
    results = {folder: _results(folder, wheels, wheels_named) for folder in (baseline, mer_r1)}
    first = results[baseline]["slow"]
    for folder, modes in results.items():
        for mode, result in modes.items():
            # Other labels are said below, by row.
            reasons = [text for text in why_not_comparable(first, result) if not text.startswith("true labels")]
            if reasons:
                raise InputError(
                    f"{folder}: its {mode} answers cannot be compared with the slow answers of {baseline} "
                    f"({'; '.join(reasons)}); answer the same shard with the same settings"
                )
    found = {folder: read_answers(folder) for folder in (baseline, mer_r1)}
    modes = [found[folder].modes[mode] for folder in (baseline, mer_r1) for mode in MODES]
    everything = []
    for answers in zip(*modes, strict=True):
        one = answers[0]
        for other in answers:
            if (other.name, other.labels) != (one.name, one.labels):
                raise InputError(
                    f"row {one.index}: {one.name!r} with labels {one.labels} in {baseline}, but {other.name!r} with "
                    f"{other.labels} in {mer_r1}; answer the same shard"
                )
        everything.append(Clip(one.index, one.name, one.labels, Pair(*answers[:2]), Pair(*answers[2:])))
    mapped = [clip for clip in everything if wheels.mask(clip.labels)]
    clips = [clip for clip in mapped if _all_answered(clip)]
    return Comparison(
        clips=clips,
        unmapped=len(everything) - len(mapped),
        unanswered=len(mapped) - len(clips),
        results=(first, results[mer_r1]["slow"]),
        settings=found[baseline].settings,
    )


def same_corpus(baseline: Path, mer_r1: Path, corpus: str | None) -> tuple[Path, Path]:
    """The result folders to compare, where the --out folders of `main_eval run` can be given, too.

    Args:
        corpus: name of the corpus's folder; None: the only one that both have.

    Raises:
        InputError: `corpus` is missing in a folder, or the folders share none or several.
    """
    found = [{one.resolve().name: one for one in result_folders(folder)} for folder in (baseline, mer_r1)]
    if corpus is None and len(found[0]) == len(found[1]) == 1:
        return next(iter(found[0].values())), next(iter(found[1].values()))
    shared = [name for name in found[0] if name in found[1]]
    if corpus in shared or (corpus is None and len(shared) == 1):
        name = corpus or shared[0]
        return found[0][name], found[1][name]
    there = f"both have {', '.join(shared)}" if shared else "they have no corpus in common"
    asked = f"--corpus {corpus}: " if corpus else ""
    raise InputError(f"{asked}{baseline} and {mer_r1}: {there}; choose one with --corpus NAME")


def _results(folder: Path, wheels: EmotionWheels, wheels_named: bool) -> dict[str, Result]:
    found = measure(folder, wheels, bootstrap=0, seed=0, wheels_named=wheels_named)
    modes = {result.mode: result for result in found.results}
    if missing := [mode for mode in MODES if mode not in modes]:
        raise InputError(f"{folder}: has no {missing[0]} answers; cases need slow and fast answers of both models")
    return {mode: modes[mode] for mode in MODES}


def _all_answered(clip: Clip) -> bool:
    return all(answer.words for pair in (clip.baseline, clip.mer_r1) for answer in (pair.slow, pair.fast))


def read_rows(clips: Iterable[Clip], shard: Path, media_root: Path | None) -> dict[int, Mapping[str, Any]]:
    """Row number → row, of these clips; whether their files are there is found out when they are decoded.

    Raises:
        InputError: no such shard, or one that does not hold these clips.
        ShardError: its clips cannot be resolved.
    """
    from verl_ext.data.shard_media import read_table

    if not shard.is_file():
        raise InputError(f"{shard}: no such shard; if it was moved, give its new path with --shard FILE")
    table = read_table(shard, media_root)
    if missing := [column for column in _COLUMNS if column not in table.column_names]:
        raise InputError(f"{shard}: column {', '.join(missing)} is missing; give the shard that was answered (--shard)")
    rows = {}
    for clip in clips:
        row = table.slice(clip.index, 1).select(_COLUMNS).to_pylist()
        truth = row and ((row[0]["extra_info"] or {}).get("name"), row[0]["reward_model"]["ground_truth"])
        if truth != (clip.name, clip.labels):
            raise InputError(
                f"{shard}, row {clip.index}: this is not the clip {clip.name!r} with labels {clip.labels}; give the "
                "shard that was answered (--shard)"
            )
        rows[clip.index] = row[0]
    return rows
