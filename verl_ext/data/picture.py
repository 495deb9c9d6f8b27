"""A decoded frame as training sees it: upright, of one size within a clip, of a shape that the model's processor takes.

PyAV only, so that `data_prep` checks clips without torch.
"""

from __future__ import annotations

import av
import numpy as np
from av.sidedata.sidedata import Type

from verl_ext.data.source import REMEDY, ClipSource, MediaError

MAX_ASPECT = 200
"""How often the shorter side of a frame may fit into the longer one: the limit of Qwen2.5-Omni's processor."""

Turn = tuple[bool, bool, bool]
"""(rows and columns change places, then: left and right change places, top and bottom change places)."""
UPRIGHT: Turn = (False, False, False)


def turn_of(frame: av.VideoFrame) -> Turn:
    """How a player turns the frame: its display matrix, to the nearest quarter turn, mirroring included."""
    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return UPRIGHT
    # In rows: x' = a x + c y, y' = b x + d y, where x goes right and y down.
    (a, b, _), (c, d, _), _ = np.frombuffer(bytes(matrix), np.int32).reshape(3, 3).tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, a < 0, d < 0
    return True, c < 0, b < 0


def turned(pixels_HWC: np.ndarray, turn: Turn) -> np.ndarray:
    """A view of the pixels, turned."""
    transpose, mirror, flip = turn
    if transpose:
        pixels_HWC = pixels_HWC.transpose(1, 0, 2)
    if mirror:
        pixels_HWC = pixels_HWC[:, ::-1]
    return pixels_HWC[::-1] if flip else pixels_HWC


def upright_size(frame: av.VideoFrame) -> tuple[int, int]:
    """(height, width) of the frame in pixels, as a player shows it."""
    return (frame.width, frame.height) if turn_of(frame)[0] else (frame.height, frame.width)


def check_shape(height: int, width: int, source: ClipSource) -> None:
    """Refuse a frame that the model's processor refuses.

    Raises:
        MediaError: one side is over :data:`MAX_ASPECT` times as long as the other.
    """
    if min(height, width) < 1 or max(height, width) > MAX_ASPECT * min(height, width):
        raise MediaError(
            f"{source} has frames of {width} × {height} pixels (width × height), but the model's processor takes no "
            f"frame whose one side is over {MAX_ASPECT} times as long as the other. {REMEDY}",
            "bad_shape",
        )
