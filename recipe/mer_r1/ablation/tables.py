"""The tables of the ablation's page, as rows of cells; the first row is the header."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from recipe.mer_r1.ablation.claims import SLOW, Claim, figure, signed
from recipe.mer_r1.ablation.record import WELL_FORMED, Record
from recipe.mer_r1.ablation.results import Results, is_start
from recipe.mer_r1.method.bootstrap import Interval
from recipe.mer_r1.method.experiments import load_experiment

NONE = "–"
MODES = ("slow_sampled", "fast_sampled", "slow", "fast")  # sampled answers decide, so they are first
_SCORES = ("f1", "recall", "precision")


def score_table(results: Results, modes: Sequence[str], paper: bool = False) -> list[list[str]]:
    """Rows with F1 and its interval, recall, precision and categories, slow and fast."""
    names = [mode.removesuffix("_sampled") for mode in modes]
    header = ["row", "seeds", *(f"{name} {what}" for name in names for what in ("F1", "R", "P", "cats"))]
    rows = [header + (["paper"] if paper else [])]
    for row in results.rows:
        cells = [row, str(len(results.records(row)))]
        for mode in modes:
            cells += [_with_width(results.mean(row, mode))]
            cells += [_number(getattr(results.mean(row, mode, score), "value", None), 3) for score in _SCORES[1:]]
            cells += [_number(results.number(row, _of_form(mode, "categories")), 2)]
        rows.append(cells + ([_papers(results, row)] if paper else []))
    return rows


def other_table(results: Results) -> list[list[str]]:
    """Rows with confidence, margin, retained hits, format and seconds per step."""
    columns: dict[str, tuple[Callable[[Record], float | None], int]] = {}
    for key in ("truth", "margin"):
        for form in ("slow", "fast"):
            columns[f"{key} {form}"] = (_of_confidence(form, key), 3)
    columns["kept hits"] = (lambda record: record.metrics.retained_hit, 3)
    for mode in MODES:
        columns[f"format {mode.replace('_', ' ')}"] = (_of_form(mode, "format"), 3)
    columns["words slow"] = (_of_form("slow", "words"), 2)
    columns["s/step"] = (lambda record: record.training and record.training.seconds_per_step, 1)
    rows = [["row", *columns]]
    for row in results.rows:
        rows.append([row, *(_number(results.number(row, of), digits) for of, digits in columns.values())])
    return rows


def training_table(results: Results) -> list[list[str]]:
    """Rows with the reward's course and what Eq. 11 and Prop. 1 were on."""
    header = ["row", "steps", "F1 first", "F1 last", "format first", "format last", "thought tokens first", "last"]
    rows = [[*header, "R⁺ defined", "R⁻ defined", "τ", "KL last"]]
    for row in results.rows:
        if is_start(row):
            continue
        cells = [row, _number(results.number(row, lambda record: record.training and record.training.steps), 0)]
        for name, digits in (("reward/f1", 3), ("reward/format", 3), ("reward/thought_tokens", 1)):
            cells += [_number(_ends(results, row, name, last), digits) for last in (False, True)]
        for side in ("pos", "neg"):
            undefined = _over_steps(results, row, f"confidence/calib_{side}/undefined")
            cells.append(NONE if undefined is None else f"{1 - undefined:.0%}")
        log_tau = _over_steps(results, row, "proposition_1/log_tau")
        cells.append(NONE if log_tau is None else f"{2.718281828**log_tau:.2f}")
        cells.append(_number(_ends(results, row, "actor/kl_loss", True), 3))
        rows.append(cells)
    return rows


def difference_table(results: Results, other: str) -> list[list[str]]:
    """Paired differences of F1 to a row, by mode; ✱ marks an interval over several seeds that leaves out 0."""
    rows = [["row", "seeds", *(mode.replace("_", " ") for mode in MODES)]]
    for row in results.rows:
        found = [results.difference(row, other, mode) for mode in MODES]
        seeds = max((one.seeds for one in found if one), default=0)
        if row == other or not seeds:
            continue
        mark = "" if is_start(row) or results.same_start(row, other) else " †"
        rows.append([f"{row}{mark}", str(seeds), *(_interval(one) for one in found)])
    return rows


def form_table(results: Results) -> list[list[str]]:
    """Rows with the share of well-formed sampled slow answers, their F1, and its difference to the baseline."""
    rows = [["row", "seeds", "format", "F1 of well-formed answers", "difference to baseline", "F1 of all answers"]]
    for row in results.rows:
        found = results.mean(row, SLOW, WELL_FORMED)
        if found is None:
            continue
        cells = [row, str(found.seeds), _number(results.number(row, _of_form(SLOW, "format")), 3), _with_width(found)]
        there = None if row == "baseline" else results.difference(row, "baseline", SLOW, WELL_FORMED)
        rows.append([*cells, _interval(there), _with_width(results.mean(row, SLOW))])
    return rows


def claim_table(claims: Sequence[Claim]) -> list[list[str]]:
    """The differences that decide a question, with what would decide those that do not."""
    rows = [["F1 of sampled slow answers", "difference", "verdict", "what would decide", "greedy"]]
    for one in claims:
        shown = [figure(found) if found else NONE for found in (one.found, one.greedy)]
        rows.append([one.name, shown[0], one.verdict, one.decides or NONE, shown[1]])
    return rows


def _of_form(mode: str, key: str) -> Callable[[Record], float | None]:
    return lambda record: getattr(record.metrics.forms.get(mode), key, None)


def _of_confidence(form: str, key: str) -> Callable[[Record], float | None]:
    return lambda record: getattr(record.metrics.confidence.get(form), key, None)


def _papers(results: Results, row: str) -> str:
    """F1 that the paper prints for the row's experiment; none for the controls and the SFT models."""
    if row not in results.table.rows:
        return NONE
    paper = load_experiment(results.table.rows[row].experiment).get("paper", {})
    for table in ("table_4", "table_5"):
        if table in paper:
            return _number(paper[table]["fine_f1"], 2)
    return _number(paper["table_3"]["slow"]["ov_merd_plus"], 2) if "table_3" in paper else NONE


def _ends(results: Results, row: str, name: str, last: bool, window: int = 5) -> float | None:
    """Mean of the first or last steps, over seeds."""
    parts = [curve[-window:] if last else curve[:window] for curve in results.curves(row, name)]
    return _mean([value for part in parts for value in part if value is not None])


def _over_steps(results: Results, row: str, name: str) -> float | None:
    return _mean([value for curve in results.curves(row, name) for value in curve if value is not None])


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}".replace("-", "−")


def _with_width(found: Interval | None) -> str:
    return NONE if found is None else f"{found.value:.3f} ± {(found.high - found.low) / 2:.3f}"


def _interval(found: Interval | None) -> str:
    if found is None:
        return NONE
    return f"{signed(found.value)} [{signed(found.low)}, {signed(found.high)}]{' ✱' if found.sign else ''}"
