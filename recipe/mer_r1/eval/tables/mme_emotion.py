"""MME-Emotion as in the paper's Table 2: CoT of the eight tasks, then recognition, reasoning and CoT of all answers."""

from __future__ import annotations

from collections.abc import Sequence

from recipe.mer_r1.eval.judge.results import TABLE_ORDER, Scores
from recipe.mer_r1.eval.judge.results import Results as Judged
from recipe.mer_r1.eval.paper import PaperTable
from recipe.mer_r1.eval.results import Result
from recipe.mer_r1.eval.tables.entry import Entry
from recipe.mer_r1.eval.tables.layout import Column, Line, Table, coverage, known, paper_lines, percent_ends

_TASKS = {task.lower().replace("-", "_"): task for task in TABLE_ORDER}
_MEANS = {"mean_rec": "recognition", "mean_rea": "reasoning", "mean_cot": "cot"}
_COLUMNS = {
    **{key: Column(task, "CoT") for key, task in _TASKS.items()},
    "mean_rec": Column("mean Rec.", mean=True),
    "mean_rea": Column("mean Rea.", mean=True),
    "mean_cot": Column("mean CoT", mean=True),
}
_SIDES = ("official", "strict")


def table(entries: Sequence[Entry], paper: PaperTable | None) -> Table:
    """Table 2; each row of ours twice, with unparseable verdicts left out (official) and worth 0 (strict).

    Args:
        entries: of MME-Emotion alone.
        paper: None: ours alone.
    """
    ours = [line for entry in entries for result in entry.folder.results for line in _lines(entry.row, result)]
    theirs = paper_lines(paper, dict(zip(_COLUMNS, _COLUMNS, strict=True)), blanks=1) if paper else []
    covered = coverage(ours, paper, _COLUMNS) if paper else []
    heads = ("model", "thinking", "scores")
    return Table("table_2", "MME-Emotion (Table 2)", heads, _COLUMNS, [*ours, *theirs], decimals=1, coverage=covered)


def _lines(row: str, result: Result) -> list[Line]:
    judged = result.judged
    if judged is None:
        return [Line((row, result.mode, "–"), dict.fromkeys(_COLUMNS), notes=result.notes)]
    partial, notes = _partial(result, judged), tuple(_notes(result, judged))
    found = []
    for side in _SIDES:
        tasks = {key: getattr(judged.tasks[task], side) for key, task in _TASKS.items() if task in judged.tasks}
        cells = {key: _percent(tasks.get(key), "cot") for key in _TASKS}
        # A task whose verdicts are all unparseable is there, though it has no official number.
        overall = getattr(judged.overall, side) if not partial and len(tasks) == len(_TASKS) else None
        means = {key: _percent(overall, field) for key, field in _MEANS.items()}
        ends = {key: percent_ends(result.metrics.get(_key(side, task))) for key, task in _TASKS.items()}
        ends |= {
            key: percent_ends(result.metrics.get(f"strict/{field}" if side == "strict" else field))
            for key, field in _MEANS.items()
        }
        shown = {key: None if (cells | means)[key] is None else one for key, one in ends.items()}
        found.append(Line((row, result.mode, side), cells | means, partial, notes, known(shown)))
    return found


def _key(side: str, task: str) -> str:
    """Of `Result.metrics`."""
    return f"strict/{task}" if side == "strict" else f"cot/{task}"


def _percent(scores: Scores | None, field: str) -> float | None:
    return None if scores is None else 100 * getattr(scores, field)


def _partial(result: Result, judged: Judged) -> frozenset[str]:
    """Tasks of which answers have no verdict; all where clips are missing, since their tasks are not known here."""
    if judged.overall.n < result.n_shard:
        return frozenset(_TASKS)
    return frozenset(key for key, task in _TASKS.items() if task in judged.tasks and judged.tasks[task].n_failed)


def _notes(result: Result, judged: Judged) -> list[str]:
    notes = []
    if judged.overall.n < result.n_shard:
        notes.append(f"no mean: only {judged.overall.n} of {result.n_shard} rows are judged")
    if absent := [task for task in TABLE_ORDER if task not in judged.tasks]:
        notes.append(f"no mean: {', '.join(absent)} missing")
    if judged.overall.n_failed:
        notes.append(
            f"no mean: {judged.overall.n_failed} answers have no verdict; run the same `main_eval judge` again"
        )
    if judged.overall.n_unparseable:
        notes.append(f"{judged.overall.n_unparseable} of {judged.overall.n} verdicts cannot be parsed")
    return notes
