"""Two kinds of charts as inline SVG, coloured by the page's CSS variables: curves, and bars of stacked parts.

Written here, and not by matplotlib, because a page with seven charts is drawn after every step: this takes
milliseconds, follows the reader's light or dark theme, and needs no package beside a training job.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

Points = Sequence[tuple[int, float]]
"""(step, value), by step."""

WIDTH, HEIGHT = 460, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 28
_MOST_POINTS, _MOST_BARS = 250, 60


@dataclass(frozen=True)
class Curve:
    """One curve of a chart.

    Attributes:
        label: for the legend; empty: not named there.
        colour: a CSS colour.
        look: "line", "faint" (the steps behind a running mean) or "dots" (joined by a dashed line: few values).
    """

    label: str
    points: Points
    colour: str
    look: str = "line"


@dataclass(frozen=True)
class Axis:
    """From values to pixels; with ``log`` in decades."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, self.low))
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round values between the ends."""
        if self.log:
            return [10.0**power for power in range(round(math.log10(self.low)), round(math.log10(self.high)) + 1)]
        rough = (self.high - self.low) / 5
        magnitude = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough)
        first = math.ceil(self.low / step - 1e-9)
        return [index * step for index in range(first, math.floor(self.high / step + 1e-9) + 1)]


def curves(drawn: Sequence[Curve], what: str, *, low: float | None = None, high: float | None = None) -> str:
    """Curves over steps.

    Args:
        drawn: the later ones on top; ones without points are left out.
        what: said to screen readers.
        low, high: ends of the axis that the data may pass, but not fall short of.
    """
    drawn = [curve for curve in drawn if len(curve.points)]
    values = [value for curve in drawn for _, value in curve.points]
    bottom, top = min([*values, *_given(low)]), max([*values, *_given(high)])
    margin = (top - bottom) * 0.06 or max(abs(top), 1.0) * 0.05
    bottom, top = bottom - margin * (low is None or bottom < low), top + margin * (high is None or top > high)
    return _curves(drawn, what, Axis(bottom, top, HEIGHT - _BOTTOM, _TOP))


def log_curves(drawn: Sequence[Curve], what: str) -> str:
    """Curves of values ≥ 0 over decades; 0 stands at the smallest decade."""
    drawn = [curve for curve in drawn if len(curve.points)]
    values = [value for curve in drawn for _, value in curve.points if value > 0] or [1.0]
    low, high = 10.0 ** math.floor(math.log10(min(values))), 10.0 ** math.ceil(math.log10(max(values)))
    return _curves(drawn, what, Axis(low, high if high > low else low * 10, HEIGHT - _BOTTOM, _TOP, log=True))


def stacked(
    bars: Sequence[tuple[int, Mapping[str, float]]], colours: Mapping[str, str], what: str, unit: str, top: float = 0.0
) -> str:
    """A bar a step (of means, where there are many steps), its parts one above the other.

    Args:
        bars: (step, part by name); values ≥ 0.
        colours: a CSS colour by name, in the order from the axis up.
        what: said to screen readers.
        unit: of the values, in the tooltips.
        top: end of the axis; 0: the highest bar.
    """
    numbers = [number for number, _ in bars]
    shown = _binned_bars(bars, colours)
    top = top or max(sum(parts.values()) for _, parts in shown) or 1.0
    steps = Axis(numbers[0] - 0.5, numbers[-1] + 0.5, _LEFT, WIDTH - _RIGHT)
    heights = Axis(0.0, top, HEIGHT - _BOTTOM, _TOP)
    width = (WIDTH - _RIGHT - _LEFT) / len(shown)
    body = []
    for place, (span, parts) in enumerate(shown):
        below, rectangles, left = 0.0, [], _LEFT + place * width
        for name, colour in colours.items():
            value = parts.get(name, 0.0)
            if value > 0:
                y = heights(below + value)
                rectangles.append(
                    f'<rect x="{left:.1f}" y="{y:.1f}" width="{max(width - 0.8, 0.8):.1f}" '
                    f'height="{heights(below) - y:.1f}" fill="{colour}"/>'
                )
                below += value
        named = ", ".join(f"{name} {parts[name]:.3g}{unit}" for name in colours if parts.get(name, 0.0) > 0)
        body.append(f"<g><title>step {span}: {escape(named)}</title>{''.join(rectangles)}</g>")
    legend = [(name, colour, shown[-1][1].get(name), "line") for name, colour in colours.items()]
    return _figure(what, steps, heights, "".join(body), legend, unit)


def _given(value: float | None) -> list[float]:
    return [] if value is None else [value]


def _curves(drawn: Sequence[Curve], what: str, values: Axis) -> str:
    numbers = [number for curve in drawn for number, _ in curve.points]
    first, last = min(numbers), max(numbers)
    steps = Axis(first, max(last, first + 1), _LEFT, WIDTH - _RIGHT)
    body = []
    for curve in drawn:
        points = [(steps(x), values(y)) for x, y in binned(curve.points, _MOST_POINTS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        body.append(f'<polyline class="{curve.look}" stroke="{curve.colour}" points="{path}"/>')
        if curve.look == "dots" or len(points) == 1:
            body += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{curve.colour}"/>' for x, y in points]
    legend = [(curve.label, curve.colour, curve.points[-1][1], curve.look) for curve in drawn if curve.label]
    return _figure(what, steps, values, "".join(body), legend)


def _figure(
    what: str,
    steps: Axis,
    values: Axis,
    body: str,
    legend: Sequence[tuple[str, str, float | None, str]],
    unit: str = "",
) -> str:
    """The frame, with the legend as text above it: each name with its last value."""
    frame = []
    for tick in values.ticks():
        y = values(tick)
        frame.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        frame.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.3g}</text>')
    for tick in (tick for tick in steps.ticks() if tick == round(tick)):
        frame.append(f'<text x="{steps(tick):.1f}" y="{HEIGHT - 10}" text-anchor="middle">{tick:.0f}</text>')
    items = "".join(
        f'<li><b class="{look}" style="background:{colour}"></b>{escape(label)}'
        f"{f' <i>{value:.3g}{unit}</i>' if value is not None else ''}</li>"
        for label, colour, value, look in legend
    )
    return (
        f'<ul class="legend">{items}</ul><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(what)}">'
        f'<g class="frame">{"".join(frame)}</g>{body}</svg>'
    )


def binned(points: Points, most: int) -> Points:
    """At most ``most`` points: means of neighbours, at the last step of each."""
    size = math.ceil(len(points) / most)
    if size <= 1:
        return points
    parts = [points[index : index + size] for index in range(0, len(points), size)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def _binned_bars(
    bars: Sequence[tuple[int, Mapping[str, float]]], names: Mapping[str, str]
) -> list[tuple[str, dict[str, float]]]:
    """("step" or "first to last", means) of at most ``_MOST_BARS`` bars."""
    size = math.ceil(len(bars) / _MOST_BARS)
    found = []
    for index in range(0, len(bars), size):
        part = bars[index : index + size]
        span = f"{part[0][0]}" if len(part) == 1 else f"{part[0][0]} to {part[-1][0]}"
        found.append((span, {name: sum(row.get(name, 0.0) for _, row in part) / len(part) for name in names}))
    return found
