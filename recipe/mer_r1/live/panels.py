"""The page's panels: a title that says what is now, a chart, and a note; one function a panel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from recipe.mer_r1.live import series, svg
from recipe.mer_r1.live.series import Steps, Validated
from recipe.mer_r1.live.svg import Curve
from recipe.mer_r1.pages.html_page import table
from recipe.mer_r1.run.steps import WINDOW, running_mean

SLOW, FAST = "var(--slow)", "var(--fast)"
# Okabe and Ito's colours as the page's variables, which differ in a dark theme.
_PARTS = [f"var(--p{index})" for index in range(8)]
_PHASES = {
    "gen": "answers sampled by vLLM",
    "reward": "reward",
    "old_log_prob": "the actor's log-probs, with slow–fast confidence if the run computes it; 0 without this pass",
    "ref": "the reference's log-probs",
    "values": "the critic's values",
    "adv": "signals and advantage",
    "update_critic": "update of the critic",
    "update_actor": "update of the actor",
    "save_checkpoint": "checkpoint",
    "update_weights": "weights to vLLM",
    series.REST: "time outside all phases",
}


def panel(title: str, body: str, note: str = "") -> str:
    """One cell of the page's grid; all HTML."""
    return f"<section><h2>{title}</h2>{body}{f'<p class=soft>{note}</p>' if note else ''}</section>"


def all_of(steps: Steps) -> list[str]:
    """The panels of an RL run or, by what it logs, of an SFT run."""
    if not steps:
        return []
    if any("train/loss" in data for data in steps.values()):
        return _sft(steps)
    validated = series.validation(steps)
    return [
        _score(steps, validated, "recall"),
        _score(steps, validated, "precision"),
        _margin(steps),
        _terms(steps),
        _phase_times(steps),
        _reward(steps),
        _categories(steps),
        _rollout_gap(steps),
        _validation_now(validated),
    ]


def smooth(label: str, points: Sequence[tuple[int, float]], colour: str) -> list[Curve]:
    """The steps faint, their running mean on top; the steps alone while they are too few for one."""
    if len(points) < WINDOW:
        return [Curve(label, points, colour)]
    means = running_mean([value for _, value in points])
    numbers = [number for number, _ in points]
    return [Curve("", points, colour, "faint"), Curve(label, list(zip(numbers, means, strict=True)), colour)]


def _score(steps: Steps, validated: Validated, score: str) -> str:
    fast = series.over_sources(validated, "fast", score)
    drawn = [
        *smooth("slow, sampled (training)", series.curve(steps, f"reward/{score}"), SLOW),
        Curve("slow, greedy (validation)", series.over_sources(validated, "slow", score), SLOW, "dots"),
        Curve("fast, greedy (validation)", fast, FAST, "dots"),
    ]
    title = score.capitalize()
    if not any(len(curve.points) for curve in drawn):
        return panel(title, "", "Neither training nor validation has scored an answer yet.")
    note = "" if fast else "Fast answers are measured when the run validates (preset.validate_every)."
    return panel(title, svg.curves(drawn, f"{title} over steps"), note)


def _margin(steps: Steps) -> str:
    drawn = [
        *smooth("slow", series.curve(steps, "confidence/margin_slow/mean"), SLOW),
        *smooth("fast", series.curve(steps, "confidence/margin_fast/mean"), FAST),
    ]
    title = "Confidence margin (Eq. 2), nats"
    if not any(len(curve.points) for curve in drawn):
        return panel(
            title,
            "",
            "This run does not compute slow–fast confidence: no term of its experiment uses it. "
            "<code>mer_r1.confidence.always=true</code> computes and logs it anyway.",
        )
    note = (
        "Mean log-probability of true categories minus that of wrong categories, in the same responses with and "
        "without thought."
    )
    return panel(title, svg.curves(drawn, "Confidence margin over steps", low=0.0), note)


def _terms(steps: Steps) -> str:
    rows, now = series.term_shares(steps), series.terms_now(steps)
    title = "Share of each term in the advantage (Eq. 12)"
    if not rows:
        return panel(title, "", "No terms: verl's own estimator computes the advantage, or no step is done yet.")
    colours = dict(zip([term.name for term in now], _PARTS * 2, strict=False))
    chart = svg.stacked(rows, colours, "Shares of terms over steps", "", top=1.0)
    cells = [
        (escape(term.name), f"{term.share:.0%}", f"{term.std:.3f}", f"{term.undefined:.0%}", f"{term.constant:.0%}")
        for term in now
    ]
    columns = ["share", "std", "undefined", "constant groups"]
    note = (
        "Share: standard deviation of a term times its weight, divided by the sum over all terms. Table: means of the "
        f"last {series.LATEST} steps."
    )
    return panel(title, chart + table(["term"], columns, cells), note)


def _phase_times(steps: Steps) -> str:
    rows = series.phases(steps)
    slowest = series.slowest(rows)
    if slowest is None:
        return panel("Seconds per step", "", "No step is done yet." if not rows else "The run timed no phase.")
    share = slowest.seconds / slowest.step_seconds if slowest.step_seconds else 0.0
    title = (
        f"Slowest phase: {escape(slowest.name)}, {slowest.seconds:.3g} of "
        f"{slowest.step_seconds:.3g} s per step ({share:.0%})"
    )
    seen = {name for _, parts in rows for name in parts}
    names = [*(name for name in _PHASES if name in seen), *sorted(seen - set(_PHASES))]
    colours = dict(zip(names, _PARTS * 3, strict=False)) | {series.REST: "var(--line)"}
    what = _PHASES.get(slowest.name, "a phase of verl")
    note = f"{escape(slowest.name)}: {what}; mean of the last {series.LATEST} steps."
    rest = series.phase_means(rows).get(series.REST, 0.0)
    note += f" {series.REST}: {_PHASES[series.REST]}, {rest:.3g} s."
    tested = series.curve(steps, "timing_s/testing")
    if tested:
        note += f" Validation takes additional time: {tested[-1][1]:.3g} s after step {tested[-1][0]}."
    return panel(title, svg.stacked(rows, colours, "Seconds of each phase over steps", " s"), note)


def _reward(steps: Steps) -> str:
    drawn = [
        *smooth("F1", series.curve(steps, "reward/f1"), "var(--p0)"),
        *smooth("format", series.curve(steps, "reward/format"), "var(--p3)"),
    ]
    missing = series.curve(steps, "reward/missing")
    lost = [(number, count) for number, count in missing if count]
    title = "Reward of sampled answers"
    if not any(len(curve.points) for curve in drawn):
        return panel(title, "", "No step is done yet.")
    if lost:
        some = ", ".join(f"{count:.0f} at step {number}" for number, count in lost[-5:])
        note = f'<span class="incorrect">Missing responses</span> (clips failed): {some}; {len(lost)} steps in total.'
    else:
        note = "No response is missing." if missing else "The run does not count missing responses."
    return panel(title, svg.curves(drawn, "F1 and format over steps"), note)


def _categories(steps: Steps) -> str:
    drawn = [
        Curve("longest answer", series.curve(steps, "reward/categories_max"), "var(--p7)"),
        *smooth("answers", series.curve(steps, "reward/categories"), "var(--p0)"),
        Curve("their labels", series.curve(steps, "reward/categories_labels"), "var(--p2)", "dots"),
    ]
    title = "Categories per answer and wheel"
    if not any(len(curve.points) for curve in drawn):
        return panel(title, "", "This run does not count the categories of answers.")
    note = "An answer that lists every category has recall 1."
    shares = [series.latest_mean(steps, f"advantage/{name}_groups") for name in ("zero", "cancelled")]
    if not any(map(math.isnan, shares)):
        note += (
            f" Groups whose answers all have recall and precision 0: {shares[0]:.0%}; groups in which the two cancel "
            f"for every answer: {shares[1]:.0%} (last {series.LATEST} steps)."
        )
    return panel(title, svg.curves(drawn, "Categories per answer over steps", low=0.0), note)


def _rollout_gap(steps: Steps) -> str:
    key = "rollout_actor_log_prob_diff"
    drawn = [
        Curve("largest", series.curve(steps, f"{key}/max"), "var(--p1)"),
        Curve("mean", series.curve(steps, f"{key}/mean"), "var(--p0)"),
    ]
    title = "Rollout and actor: |difference of log-probs| per token"
    if not any(len(curve.points) for curve in drawn):
        return panel(title, "", "No step is done yet.")
    note = "vLLM compared with the actor. The difference should stay far below 1; if it grows, training is off-policy."
    return panel(title, svg.log_curves(drawn, "Difference of log-probs over steps"), note)


def _validation_now(validated: Validated, more: str = "") -> str:
    if not validated:
        return panel("Validation", "", "No validation yet.")
    last = max(points[-1][0] for points in validated.values())
    scores = ("recall", "precision", "f1", "format")
    rows = []
    for source, mode in sorted({key[:2] for key in validated}, key=lambda pair: (pair[0], pair[1] != "slow")):
        values = [dict(validated.get((source, mode, score), [])).get(last, math.nan) for score in scores]
        rows.append((escape(source), mode, *(f"{value:.3f}" for value in values)))
    return panel(
        f"Validation after step {last}", table(["clips of", "answers"], list(scores), rows), f"Greedy answers.{more}"
    )


def _sft(steps: Steps) -> list[str]:
    loss, rate = series.curve(steps, "train/loss"), series.curve(steps, "train/lr")
    norm, seconds = series.curve(steps, "train/grad_norm"), series.curve(steps, "perf/step_seconds")
    drawn = smooth("loss", loss, "var(--p1)")
    if tested := series.curve(steps, "val/loss"):
        drawn.append(Curve("validation", tested, "var(--p0)", "dots"))
    found = [panel("SFT loss", svg.curves(drawn, "Loss over steps", low=0.0)), *_sft_scores(steps)]
    if rate:
        found.append(panel("Learning rate", svg.curves([Curve("lr", rate, "var(--p0)")], "Learning rate over steps")))
    if norm:
        drawn = smooth("before clipping", norm, "var(--p2)")
        found.append(panel("Norm of the gradient", svg.curves(drawn, "Norm of the gradient over steps", low=0.0)))
    if seconds:
        drawn = smooth("step", seconds, "var(--p3)")
        found.append(panel("Seconds per step", svg.curves(drawn, "Seconds per step", low=0.0)))
    return found


def _sft_scores(steps: Steps) -> list[str]:
    """Scores of the answers of the model in training, where the run has scored some (preset.sft.score_every)."""
    validated = series.validation(steps)
    if not validated:
        return []
    found = []
    for score, title in (("f1", "F1"), ("recall", "Recall"), ("precision", "Precision"), ("format", "Format")):
        drawn = [
            Curve(f"{mode}, greedy", series.over_sources(validated, mode, score), colour, "dots")
            for mode, colour in (("slow", SLOW), ("fast", FAST))
        ]
        found.append(panel(title, svg.curves(drawn, f"{title} over steps")))
    found.append(_validation_now(validated, _of_scoring(steps)))
    return found


def _of_scoring(steps: Steps) -> str:
    """What the latest scoring took, and how many clips failed in it."""
    note = ""
    if seconds := series.curve(steps, "perf/score_seconds"):
        number, taken = seconds[-1]
        note = f" Answering and scoring took {taken:.3g} s after step {number}."
    if (failed := series.curve(steps, "val/failed")) and failed[-1][1]:
        note += f' <span class="incorrect">Failed clips</span>, which count as wrong: {failed[-1][1]:.0f}.'
    return note
