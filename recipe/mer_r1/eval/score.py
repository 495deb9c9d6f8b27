"""`main_eval score`: score a file of predictions against a file of labels, print a table, write JSON."""

from __future__ import annotations

import json
import math
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.files.labels import Source, read
from recipe.mer_r1.files.provenance import git_state, versions
from recipe.mer_r1.method.metrics import ew_scores, hit_rate, waf
from recipe.mer_r1.method.wheel import EmotionWheels

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


WheelsOption = Annotated[
    Path | None, typer.Option(help="official wheels: a folder, or wheel_mapping.npz; default: the embedded wheels")
]
BuiltinWheelsOption = Annotated[
    bool, typer.Option("--builtin-wheels", help="use the embedded wheels, even if the run used others")
]
_KEYS = ("task", "n", "n_scored_per_wheel", "F", "P", "R", "hit", "waf", "per_wheel", "wheels", "rules")


class Task(StrEnum):
    """EW: open word lists. HIT: one basic emotion a sample. WAF: sentiment polarity."""

    ew = "ew"
    hit = "hit"
    waf = "waf"


class RuleSet(StrEnum):
    """Whether an undefined score is NaN (mer2025) or 0 (mer2026)."""

    mer2025 = "mer2025"
    mer2026 = "mer2026"


class MissingSamples(StrEnum):
    """What to do where the names of the two files differ."""

    error = "error"
    zero = "zero"


@app.command()
def score(
    task: Annotated[Task, typer.Option(help="the score to compute")],
    gold: Annotated[Path, typer.Option(help="true labels: CSV, JSONL, or MERBench label npz with --key")],
    pred: Annotated[Path, typer.Option(help="predictions: CSV, JSONL, or npz with filenames and fileitems")],
    wheels: WheelsOption = None,
    rules: Annotated[
        RuleSet | None,
        typer.Option(
            help="undefined scores are NaN (mer2025) or 0 (mer2026); default: mer2025, embedded wheels: mer2026"
        ),
    ] = None,
    level: Annotated[int, typer.Option(min=1, max=2, help="level of the categories (ew)")] = 1,
    bootstrap: Annotated[int, typer.Option(min=0, help="number of resamplings for 95 % intervals; 0: none")] = 0,
    seed: Annotated[int, typer.Option(help="seed of the resampling")] = 0,
    key: Annotated[str | None, typer.Option(help="member of a MERBench label npz, such as test_corpus")] = None,
    emotions: Annotated[str | None, typer.Option(help="meaning of numeric labels: meld, iemocap or a,b,c")] = None,
    names: Annotated[
        str | None, typer.Option(help="score only samples whose name matches this pattern, such as '^Ses05'")
    ] = None,
    missing: Annotated[
        MissingSamples, typer.Option(help="missing samples: stop with an error, or score them zero (waf: wrong)")
    ] = (MissingSamples.error),
    json_out: Annotated[Path | None, typer.Option("--json", help="also write the result to this file")] = None,
) -> None:
    """Score predictions against labels. Exit code 2: the input is wrong."""
    try:
        if task is Task.waf and (wheels or rules):
            raise InputError("--wheels and --rules cannot be used with --task waf: sentiment needs no emotion wheel")
        if task is not Task.ew and level != 1:
            raise InputError(f"--level {level} cannot be used with --task {task.value}; only ew has level 2")
        truth, guess = _inputs(task, gold, pred, key, emotions, names)
        options = {"missing": missing.value, "bootstrap": bootstrap, "seed": seed}
        if task is Task.waf:
            result = waf(truth, guess, **options)
        else:
            table = load_wheels(wheels, rules)
            result = (
                ew_scores(truth, guess, table, level, **options)
                if task is Task.ew
                else hit_rate(truth, guess, table, **options)
            )
        unmatched = {"gold": len(truth.keys() - guess.keys()), "pred": len(guess.keys() - truth.keys())}
        result |= {"unmatched": unmatched, "git": git_state(), "versions": versions("mer-r1", "numpy")}
        if json_out:
            _write(json_out, result)
    except ValueError as error:  # InputError, WheelError, and what the metrics refuse
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(_table(result))


def _inputs(
    task: Task, gold: Path, pred: Path, key: str | None, emotions: str | None, names: str | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    truth = read(Source(gold, "value" if task is Task.waf else "words", key, emotions))
    guess = read(Source(pred, "text" if task is Task.waf else "words", predictions=True))
    if names is None:
        return truth, guess
    try:
        pattern = re.compile(names)
    except re.error as error:
        raise InputError(f"--names {names!r} is not a regular expression ({error})") from error
    truth, guess = ({name: found[name] for name in found if pattern.search(name)} for found in (truth, guess))
    if not truth:
        raise InputError(f"--names {names!r} matches no name in {gold}")
    return truth, guess


def check_wheels_named_once(wheels: Path | None, builtin_wheels: bool) -> None:
    """Raise InputError where both options are given."""
    if wheels and builtin_wheels:
        raise InputError("--wheels and --builtin-wheels cannot be used together; give one of them")


def load_wheels(folder: Path | None, rules: RuleSet | None) -> EmotionWheels:
    """The official wheels, or the embedded ones; rules default to the table's own. Raises WheelError."""
    chosen = {} if rules is None else {"rules": rules.value}
    return EmotionWheels.builtin(**chosen) if folder is None else EmotionWheels.load(folder, **chosen)


def _write(path: Path, result: dict[str, Any]) -> None:
    """Write the result as JSON; every task's file has the same keys, null where they don't apply."""
    result = dict.fromkeys(_KEYS) | result
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_null_for_nan(result), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"--json {path}: cannot be written ({error.strerror})") from error


def _null_for_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _null_for_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_null_for_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _table(result: dict[str, Any]) -> str:
    """The result in columns of numbers × 100, one row a wheel and one for the mean."""
    keys = [key for key in ("F", "P", "R", "hit", "waf") if key in result]
    lines = [f"{'':8}" + "".join(f"{key:>9}" for key in keys) + f"{'n':>8}"]
    for wheel, row in result.get("per_wheel", {}).items():
        lines.append(f"{wheel:8}" + "".join(f"{100 * row[key]:9.2f}" for key in keys) + f"{row['n']:8}")
    lines.append(f"{'score':8}" + "".join(f"{100 * result[key]:9.2f}" for key in keys) + f"{result['n']:8}")
    for index, bound in enumerate(("low", "high") if "ci95" in result else ()):
        lines.append(f"{'95% ' + bound:8}" + "".join(f"{100 * result['ci95'][key][index]:9.2f}" for key in keys))
    if "n_scored" in result:
        lines.append(
            f"scored {result['n_scored']} of {result['n']}; {result['n_other']} predictions are not a sentiment"
        )
    if "wheels" in result:
        wheels = result["wheels"]
        lines.append(f"wheels {wheels['name']} {wheels['version']} ({wheels['sha256'][:12]}), rules {result['rules']}")
    if any(result["unmatched"].values()):
        unmatched = result["unmatched"]
        scored = "counted as wrong" if result["task"] == "waf" else "scored 0"
        lines.append(
            f"{unmatched['gold']} labels without a prediction {scored}, {unmatched['pred']} predictions without a "
            "label ignored"
        )
    return "\n".join(lines)
