"""From a folder of answers to its results: every number is computed anew from labels and words."""

from __future__ import annotations

from pathlib import Path

from recipe.mer_r1.eval import analyses, scoring
from recipe.mer_r1.eval.analyses import PerClip
from recipe.mer_r1.eval.answers import Answers, RunSettings, by_sample, read_answers
from recipe.mer_r1.eval.corpora import task_of
from recipe.mer_r1.eval.fingerprints import sha256
from recipe.mer_r1.eval.results import FolderResults, Origin, Result, Sampling, Wheels, why_not_comparable
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.files.provenance import git_state, versions
from recipe.mer_r1.method.wheel import EmotionWheels


def measure(folder: Path, wheels: EmotionWheels, *, bootstrap: int, seed: int, wheels_named: bool) -> FolderResults:
    """Score a folder that `main_eval run` wrote.

    Args:
        bootstrap: resamplings for the 95 % intervals; 0: none.
        wheels_named: whether the user chose the wheels; else they must be those that the run was made with.

    Raises:
        InputError: the folder cannot be used, or its slow and fast answers are not of the same clips.
    """
    answers = read_answers(folder)
    made_with = answers.settings.wheels
    if not wheels_named and made_with != wheels.identity:
        raise InputError(
            f"{folder}: scored with the wheels {made_with.get('name')} {made_with.get('version')}, not with "
            f"{wheels.name}; choose the wheels with --wheels DIR or --builtin-wheels"
        )
    task = task_of(answers.settings.corpus)
    clips = {
        mode: analyses.per_clip(mode, lines, folder / f"{mode}.jsonl", wheels, task, answers.settings.form)
        for mode, lines in answers.modes.items()
    }
    results = tuple(_result(answers, mode, clips[mode], wheels, bootstrap, seed) for mode in answers.modes)
    found = FolderResults(results=results)
    slow, fast = found.mode("slow"), found.mode("fast")
    if slow is None or fast is None:
        return found
    if reasons := why_not_comparable(slow, fast):
        raise InputError(
            f"{folder}: slow and fast answers are not comparable ({'; '.join(reasons)}); finish `main_eval run`"
        )
    if task_of(slow.corpus) not in ("ew", "hit"):
        return found
    forms = answers.modes["slow"], answers.modes["fast"]
    paired = scoring.gaps(*forms, wheels, bootstrap, seed)
    paired |= analyses.gaps(clips["slow"], clips["fast"], bootstrap, seed)
    retained = analyses.retained_hit(*forms, wheels, bootstrap, seed)
    return found.model_copy(update={"gaps": paired, "retained_hit": retained})


def _result(answers: Answers, mode: str, clips: PerClip, wheels: EmotionWheels, bootstrap: int, seed: int) -> Result:
    lines, settings = answers.modes[mode], answers.settings
    path = answers.folder / f"{mode}.jsonl"
    parts = by_sample(lines, path)
    by_name = sorted(parts[0], key=lambda line: (line.name, line.index))
    found = scoring.score(task_of(settings.corpus), lines, path, wheels, bootstrap, seed)
    return Result(
        corpus=settings.corpus,
        split=settings.split,
        mode=mode,
        model=settings.model,
        weights_sha256=settings.weights_sha256,
        names_sha256=sha256([line.name for line in by_name]),
        prompt_sha256=sha256([[line.name, line.prompt_sha256] for line in by_name]),
        labels_sha256=sha256([[line.name, line.labels] for line in by_name]),
        media=settings.media,
        sampling=_sampling(settings, mode),
        form=settings.form,
        samples=len(parts),
        wheels=Wheels(**wheels.identity, rules=wheels.rules),
        n=len(by_name),
        n_shard=settings.n_shard,
        n_failed=len({line.index for line in lines if line.failed is not None}),
        n_empty=sum(not line.words for line in lines),
        metrics=found.metrics | clips.metrics(bootstrap, seed),
        sentiment=found.sentiment,
        judged=found.judged,
        reading=clips.reading,
        unread=clips.unread,
        notes=found.notes,
        generated=answers.origins,
        scored=Origin(git=git_state(), versions=versions("mer-r1", "numpy")),
    )


def _sampling(settings: RunSettings, mode: str) -> Sampling:
    return Sampling(
        # `run` samples these modes at temperature 1, whatever --temperature says.
        temperature=1.0 if mode.endswith("_sampled") else settings.temperature,
        seed=settings.seed,
        max_tokens=settings.max_tokens,
        max_prompt_length=settings.max_prompt_length,
        dtype=settings.dtype,
    )
