"""Panels side by side that share their rows: points with 95 % intervals, a row a corpus or a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipe.mer_r1.eval.results import Metric

# Okabe and Ito's colours, which stay apart for most colour-blind readers; the shapes tell them apart in grey.
STYLES = (
    ("#0072b2", "o"),
    ("#d55e00", "D"),
    ("#009e73", "s"),
    ("#cc79a7", "^"),
    ("#e69f00", "v"),
    ("#56b4e9", "P"),
    ("#444444", "X"),
)
SLOW, FAST = STYLES[0], STYLES[4][:1] + STYLES[1][1:]
CAPTION = "Thin lines and brackets: 95 % bootstrap intervals over clips; bold: the interval excludes zero."
_GREY = "#555555"
_COLUMNS = 2
_BELOW_INCHES = 0.52  # ticks and the unit
_PANEL_INCHES, _SERIES_INCHES, _ROW_GAP_INCHES, _LABELS_INCHES = 4.2, 0.22, 0.2, 1.3


@dataclass(frozen=True)
class Series:
    """One kind of point; `points` has one a row, None where there is none."""

    label: str
    style: tuple[str, str]
    points: Sequence[Metric | None]


@dataclass(frozen=True)
class Panel:
    """One quantity.

    Attributes:
        unit: below the axis.
        gaps: of two series, the second less the first, a row each; they are written at the right, and the two points,
            at one height, are joined. Without, every point has a height and its number.
        zero: whether a line marks it.
        decimals: of the numbers written.
    """

    title: str
    unit: str
    series: Sequence[Series]
    gaps: Sequence[Metric] | None = None
    zero: bool = False
    decimals: int = 1


@dataclass(frozen=True)
class Picture:
    """Panels over the same rows."""

    title: str
    rows: Sequence[str]
    panels: Sequence[Panel]
    caption: str = CAPTION


def percent(metric: Metric | None) -> Metric | None:
    """A metric of 0..1 in percent."""
    if metric is None:
        return None
    return Metric(**{key: None if number is None else 100 * number for key, number in metric.model_dump().items()})


def draw(picture: Picture, paths: Sequence[Path]) -> None:
    """Write the picture to every path (.png, .svg)."""
    from matplotlib import pyplot as plt

    from recipe.mer_r1.pages.figure_style import STYLE

    style = STYLE | {"font.size": 12, "axes.grid": False, "svg.fonttype": "none", "svg.hashsalt": "mer-r1"}
    columns = min(len(picture.panels), _COLUMNS)
    lines = -(-len(picture.panels) // columns)
    most = max(2 if panel.gaps else len(panel.series) for panel in picture.panels)
    height = 1.1 + lines * (1.2 + len(picture.rows) * (_ROW_GAP_INCHES + _SERIES_INCHES * most))
    width = _LABELS_INCHES + columns * (_PANEL_INCHES + (1.1 if any(panel.gaps for panel in picture.panels) else 0))
    with plt.rc_context(style):
        figure, axes = plt.subplots(
            lines, columns, figsize=(max(width, 7.5), height), sharey=True, layout="constrained", squeeze=False
        )
        for axis, panel in zip(axes.flat, picture.panels, strict=False):
            _panel(axis, panel)
        for axis in axes.flat[len(picture.panels) :]:
            axis.set_visible(False)
        axes[0, 0].set_yticks(range(len(picture.rows)), picture.rows)
        axes[0, 0].set_ylim(len(picture.rows) - 0.45, -0.55)
        _legends(axes.flat, picture.panels)
        figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08)
        figure.suptitle(picture.title, x=0.01, ha="left", fontsize=15)
        figure.supxlabel(picture.caption, fontsize=10, color=_GREY)
        for path in paths:
            figure.savefig(path, dpi=200)
        plt.close(figure)


def _panel(axis: Any, panel: Panel) -> None:
    if panel.zero:
        axis.axvline(0, color="#999999", linewidth=1.2, zorder=0)
    for number, series in enumerate(panel.series):
        shift = 0.72 * ((number + 0.5) / len(panel.series) - 0.5)
        for row, metric in enumerate(series.points):
            if metric is not None and metric.value is not None:
                _point(axis, metric, series.style, row, shift, panel)
    if panel.gaps:
        _pairs(axis, panel)
    axis.set_title(panel.title, loc="left", fontweight="bold", fontsize=13)
    axis.set_xlabel(panel.unit, fontsize=10, color=_GREY)
    axis.grid(axis="x", alpha=0.3)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.margins(x=0.12 if panel.gaps else 0.2)


def _point(axis: Any, metric: Metric, style: tuple[str, str], row: int, shift: float, panel: Panel) -> None:
    """A point and, beside it where two share a height, its interval: on one height they would hide each other."""
    colour, marker = style
    if metric.low is not None and metric.high is not None:
        axis.plot([metric.low, metric.high], [row + shift] * 2, color=colour, linewidth=1.4, alpha=0.6)
    height = row if panel.gaps else row + shift
    axis.scatter(metric.value, height, s=85, color=colour, marker=marker, edgecolor="white", zorder=3)
    if not panel.gaps:
        end = metric.value if metric.high is None else metric.high
        text = signed(metric.value, panel.decimals) if panel.zero else f"{metric.value:.{panel.decimals}f}"
        place = {"xytext": (9, 0), "textcoords": "offset points", "va": "center"}
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}  # lines do not cross the number
        axis.annotate(text.replace("-", "−"), (end, height), fontsize=10, color=colour, bbox=behind, **place)


def _pairs(axis: Any, panel: Panel) -> None:
    """Join the two points of a row and write their difference: their own intervals cannot tell whether it is sure,
    since the same clips are hard for both.
    """
    for row, (gap, *ends) in enumerate(zip(panel.gaps, *(series.points for series in panel.series), strict=True)):
        values = [metric.value for metric in ends if metric is not None and metric.value is not None]
        if len(values) < len(ends) or gap.value is None:
            continue
        axis.plot(values, [row, row], color="#999999", linewidth=3, solid_capstyle="round", zorder=1)
        text, sure = signed(gap.value, panel.decimals), False
        if gap.low is not None and gap.high is not None:
            text += f"\n[{signed(gap.low, panel.decimals)}, {signed(gap.high, panel.decimals)}]"
            sure = gap.low > 0 or gap.high < 0
        _beside(axis, text, row, va="center", fontsize=10, fontweight="bold" if sure else "normal")
    first, second = (series.label.split()[0] for series in panel.series)
    _beside(axis, f"{second} − {first}", 1.0, va="bottom", fontsize=10, y_in_axes=True)


def _legends(axes: Sequence[Any], panels: Sequence[Panel]) -> None:
    """Below the first panel that has these series."""
    from matplotlib.lines import Line2D
    from matplotlib.transforms import ScaledTranslation

    seen: set[tuple[str, ...]] = set()
    for axis, panel in zip(axes, panels, strict=False):
        labels = tuple(series.label for series in panel.series)
        if labels in seen:
            continue
        seen.add(labels)
        looks = (series.style for series in panel.series)
        handles = [Line2D([], [], color=colour, marker=marker, linestyle="", markersize=9) for colour, marker in looks]
        axis.legend(
            handles,
            labels,
            loc="upper left",
            bbox_to_anchor=(-0.03, 0),
            bbox_transform=axis.transAxes + ScaledTranslation(0, -_BELOW_INCHES, axis.figure.dpi_scale_trans),
            ncols=min(len(labels), 3),
            fontsize=11,
            columnspacing=1.0,
            handletextpad=0.1,
            borderaxespad=0.0,
        )


def signed(value: float, decimals: int) -> str:
    """With its sign, a minus being a minus."""
    return f"{value:+.{decimals}f}".replace("-", "−")


def _beside(axis: Any, text: str, height: float, *, y_in_axes: bool = False, **style: Any) -> None:
    """Text right of the axes, at a height in rows or, above them, in shares of the axes."""
    where = "axes fraction" if y_in_axes else ("axes fraction", "data")
    shift = (8, 6 if y_in_axes else 0)
    place = {"xycoords": where, "xytext": shift, "textcoords": "offset points"}
    axis.annotate(text, (1.0, height), color="#333333", **place, **style)
