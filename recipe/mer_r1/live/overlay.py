"""Several runs in the same charts, a colour for each run: what can be compared lies over each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

from recipe.mer_r1.live import panels, series, svg
from recipe.mer_r1.live.series import Steps
from recipe.mer_r1.live.svg import Curve
from recipe.mer_r1.pages.html_page import table

Points = Sequence[tuple[int, float]]
_SCORES = ("recall", "precision", "f1")
_TITLES = {"recall": "Recall", "precision": "Precision", "f1": "F1"}


def colour(place: int) -> str:
    """Of a run, by its place on the page."""
    return f"var(--p{place % 8})"


def all_of(runs: Mapping[str, Steps]) -> list[str]:
    """Panels with a curve for each run that has the metric; those that no run has are left out."""
    of: dict[str, tuple[Callable[[Steps], Points], str]] = {}
    for score in _SCORES:
        of[f"{_TITLES[score]}: slow, sampled (training)"] = _metric(f"reward/{score}"), ""
    for score in _SCORES:
        for mode in ("slow", "fast"):
            of[f"{_TITLES[score]}: {mode}, greedy (validation)"] = _validated(mode, score), "dots"
    of |= {
        "Format of sampled answers": (_metric("reward/format"), ""),
        "Confidence margin, slow (Eq. 2), nats": (_metric("confidence/margin_slow/mean"), ""),
        "Confidence margin, fast (Eq. 2), nats": (_metric("confidence/margin_fast/mean"), ""),
        "Categories per answer and wheel": (_metric("reward/categories"), ""),
        "KL to the reference, nats": (_metric("actor/kl_loss"), ""),
        "Entropy, nats": (_metric("actor/entropy"), ""),
        "Seconds per step": (_metric("timing_s/step"), ""),
        "SFT loss": (_metric("train/loss"), ""),
        "SFT learning rate": (_metric("train/lr"), "plain"),
        "SFT norm of the gradient": (_metric("train/grad_norm"), ""),
        "SFT seconds per step": (_metric("perf/step_seconds"), ""),
    }
    found = (_panel(title, runs, points, look) for title, (points, look) in of.items())
    return [panel for panel in found if panel]


def _panel(title: str, runs: Mapping[str, Steps], points: Callable[[Steps], Points], look: str) -> str:
    drawn: list[Curve] = []
    for place, (name, steps) in enumerate(runs.items()):
        found = points(steps)
        if not len(found):
            continue
        drawn += [Curve(name, found, colour(place), look)] if look == "dots" else []
        drawn += [Curve(name, found, colour(place))] if look == "plain" else []
        drawn += panels.smooth(name, found, colour(place)) if not look else []
    if look == "dots" and all(len(curve.points) < 2 for curve in drawn):
        return ""  # no curve yet: the table of validations has the numbers
    return panels.panel(escape(title), svg.curves(drawn, f"{title} over steps")) if drawn else ""


def validations(runs: Mapping[str, Steps]) -> str:
    """Scores of the last validation, a column for each run."""
    rows = []
    for score in _SCORES:
        for mode in ("slow", "fast"):
            last = [_validated(mode, score)(steps)[-1:] for steps in runs.values()]
            rows.append([f"{_TITLES[score]}, {mode}", *(f"{found[0][1]:.3f}" if found else "–" for found in last)])
    if all(cell == "–" for row in rows for cell in row[1:]):
        return ""
    shown = table(["greedy answers"], list(map(escape, runs)), rows)
    return panels.panel("Last validation", shown, "Means over the sources.")


def phases(runs: Mapping[str, Steps]) -> str:
    """Seconds of each phase, a column for each run."""
    rows = {name: series.phase_means(series.phases(steps)) for name, steps in runs.items()}
    rows = {name: means for name, means in rows.items() if means}
    if not rows:
        return ""
    names = list(dict.fromkeys(phase for means in rows.values() for phase in means))
    cells = [
        [escape(phase), *(_seconds(means[phase]) if phase in means else "–" for means in rows.values())]
        for phase in names
    ]
    cells.append(["step", *(f"{sum(means.values()):.3g}" for means in rows.values())])
    note = f"Means of the last {series.LATEST} steps."
    shown = table(["phase"], list(map(escape, rows)), cells, marked={len(cells) - 1: "sum"})
    return panels.panel("Seconds of each phase", shown, note)


def _seconds(value: float) -> str:
    """HTML: three digits, or "< 0.001", also for 0: a phase that the run does not need."""
    return f"{value:.3g}" if value >= 0.001 else "&lt; 0.001"


def _metric(key: str) -> Callable[[Steps], Points]:
    return lambda steps: series.curve(steps, key)


def _validated(mode: str, score: str) -> Callable[[Steps], Points]:
    return lambda steps: series.over_sources(series.validation(steps), mode, score)
