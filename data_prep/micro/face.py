"""A drawn face, 56 × 56: brows, eyes and mouth carry the emotion; skin, hair and background carry nothing.

Shapes are large, dark on light and always at the same place (± 1 pixel): a vision tower of a few thousand weights has
to read them from patches of 14 × 14. All drawing is on a canvas `SCALE` times larger, reduced by a box filter.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

SIZE = 56
SCALE = 4

SKINS = ("#f6d7bd", "#eec39a", "#d9a066", "#c68642", "#f2cfa5")
HAIRS = ("#2b1d14", "#5a3825", "#b8860b", "#777777")
BACKGROUNDS = ("#dfe6ea", "#e9e4d8", "#dbe8da", "#e8dde6", "#d5dde8")
INK, WHITE, MOUTH, TONGUE, TEAR = "#1a1210", "#ffffff", "#5b1018", "#e0455a", "#2f7fe0"

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Look:
    """What a face looks like apart from its emotion; (dx, dy) shifts it, in pixels of the finished picture."""

    skin: str
    hair: str
    background: str
    dx: float
    dy: float

    @classmethod
    def draw(cls, rng: random.Random) -> Look:
        """Draw a look."""
        return cls(
            rng.choice(SKINS), rng.choice(HAIRS), rng.choice(BACKGROUNDS), rng.randint(-1, 1), rng.randint(-1, 1)
        )


def draw_face(state: str, opening: float, look: Look) -> Image.Image:
    """A face in an emotional state (an emotion or "neutral") whose mouth is open by `opening` in [0, 1]; RGB."""
    pen = _Pen(look)
    pen.head()
    for side in (-1, 1):  # left and right of the picture
        _draw_eye(pen, state, side)
        _draw_brow(pen, state, side)
    _MOUTHS[state](pen, opening)
    return pen.image.reduce(SCALE)


class _Pen:
    """Draws in coordinates of a 56 × 56 picture whose face is centred at (0, 0)."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self.image = Image.new("RGB", (SIZE * SCALE, SIZE * SCALE), look.background)
        self._draw = ImageDraw.Draw(self.image)
        self._origin = (SIZE / 2 + look.dx, SIZE / 2 + 1 + look.dy)

    def _at(self, point: Point) -> Point:
        return tuple(round((o + p) * SCALE) for o, p in zip(self._origin, point, strict=True))

    def line(self, points: list[Point], width: float, colour: str = INK) -> None:
        at = [self._at(point) for point in points]
        self._draw.line(at, fill=colour, width=round(width * SCALE), joint="curve")
        radius = width * SCALE / 2
        for x, y in (at[0], at[-1]):  # round ends
            self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)

    def ellipse(self, centre: Point, rx: float, ry: float, colour: str, ink: float = 0) -> None:
        (x, y), outline = centre, INK if ink else None
        box = (*self._at((x - rx, y - ry)), *self._at((x + rx, y + ry)))
        self._draw.ellipse(box, fill=colour, outline=outline, width=round(ink * SCALE))

    def polygon(self, points: list[Point], colour: str) -> None:
        self._draw.polygon([self._at(point) for point in points], fill=colour)

    def bow(self, centre: Point, half: float, rise: float, width: float) -> None:
        """A parabola from left to right whose middle is `rise` above its ends (negative: below)."""
        steps = [i / 6 - 1 for i in range(13)]
        self.line([(centre[0] + half * s, centre[1] - rise * (1 - s * s)) for s in steps], width)

    def head(self) -> None:
        self.ellipse((0, -3), 26, 27, self.look.hair)
        self.ellipse((0, 1.5), 24.5, 26.5, self.look.skin)


_BROWS: dict[str, tuple[float, float, float]] = {
    # state: height of the outer end, of the inner end (down is positive), thickness
    "happy": (-13, -16, 2),
    "sad": (-10, -18, 2.5),
    "angry": (-18, -9, 5),
    "scared": (-14, -21, 2.5),
    "surprised": (-20, -22, 2.5),
    "disgusted": (-10, -10, 4),
    "neutral": (-15, -15, 2.5),
}


def _draw_brow(pen: _Pen, state: str, side: int) -> None:
    outer, inner, width = _BROWS[state]
    pen.line([(side * 19, outer), (side * 4.5, inner)], width)


def _draw_eye(pen: _Pen, state: str, side: int) -> None:
    x, y = side * 11, -5
    if state == "happy":  # closed by the smile
        pen.bow((x, y), 6, 5, 2.5)
    elif state == "disgusted":  # squeezed shut
        pen.line([(side * 17, y - 3), (side * 6, y), (side * 17, y + 3)], 2)
    elif state == "sad":  # half shut, looking down, a tear
        pen.ellipse((x, y), 5.5, 4, WHITE, 1)
        pen.ellipse((x, y + 2), 2.5, 2.5, INK)
        pen.ellipse((side * 15, 6), 3, 6, TEAR)
    elif state == "angry":  # narrow
        pen.ellipse((x, y + 1), 6, 3, WHITE, 1)
        pen.ellipse((x, y + 1), 2.5, 2.5, INK)
    elif state == "scared":  # wide, tiny pupils
        pen.ellipse((x, y - 1), 7, 7, WHITE, 1)
        pen.ellipse((x, y - 1), 1.5, 1.5, INK)
    elif state == "surprised":  # wide, large pupils
        pen.ellipse((x, y - 2), 7.5, 8.5, WHITE, 1)
        pen.ellipse((x, y - 2), 4, 4, INK)
    else:
        pen.ellipse((x, y), 5, 4, WHITE, 1)
        pen.ellipse((x, y), 2.5, 2.5, INK)


def _happy_mouth(pen: _Pen, opening: float) -> None:
    depth = 9 + 4 * opening
    curve = [(16 * s / 6, 9 + depth * (1 - (s / 6) ** 2)) for s in range(-6, 7)]
    pen.polygon(curve, MOUTH)
    pen.polygon([(-15, 9), (15, 9), (12, 13), (-12, 13)], WHITE)
    pen.line([*curve, curve[0]], 1.5)


def _sad_mouth(pen: _Pen, opening: float) -> None:
    if opening > 0.3:
        pen.ellipse((0, 16), 5, 3 * opening, MOUTH)
    pen.bow((0, 20), 11, 7, 3)


def _angry_mouth(pen: _Pen, opening: float) -> None:
    half = 4 + 3 * opening
    pen.polygon([(-13, 15 - half), (13, 15 - half), (13, 15 + half), (-13, 15 + half)], INK)
    for x in (-9, -3, 3, 9):  # clenched teeth
        pen.polygon([(x - 2, 16 - half), (x + 2, 16 - half), (x + 2, 14 + half), (x - 2, 14 + half)], WHITE)


def _scared_mouth(pen: _Pen, opening: float) -> None:
    if opening > 0.3:
        pen.ellipse((0, 16), 9, 5 * opening, MOUTH)
    zigzag = [(-14, 18), (-9.5, 12), (-4.5, 18), (0, 12), (4.5, 18), (9.5, 12), (14, 18)]
    pen.line(zigzag, 2.5)


def _surprised_mouth(pen: _Pen, opening: float) -> None:
    pen.ellipse((0, 16), 5.5, 6 + 3 * opening, MOUTH, 1.5)


def _disgusted_mouth(pen: _Pen, opening: float) -> None:
    pen.line([(-12, 10), (0, 11), (12, 9)], 3)
    length = 6 + 4 * opening
    pen.ellipse((3, 11 + length / 2), 5, length / 2 + 2, TONGUE, 1)
    for y in (-1, 3):  # wrinkled nose
        pen.bow((0, y), 4, 2.5, 1.5)


def _neutral_mouth(pen: _Pen, opening: float) -> None:
    if opening > 0.3:
        pen.ellipse((0, 15), 7, 4 * opening, MOUTH, 1)
    else:
        pen.line([(-8, 15), (8, 15)], 2.5)


_MOUTHS = {
    "happy": _happy_mouth,
    "sad": _sad_mouth,
    "angry": _angry_mouth,
    "scared": _scared_mouth,
    "surprised": _surprised_mouth,
    "disgusted": _disgusted_mouth,
    "neutral": _neutral_mouth,
}
