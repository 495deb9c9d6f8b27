"""JPEG frames of a clip as data URLs, for the judge and for pages."""

from __future__ import annotations

import base64
from io import BytesIO

from verl_ext.data.source import ClipSource

FPS, MAX_FRAMES = 1.0, 10
"""What the judge sees."""
LONGEST_SIDE = 768
"""Pixels; larger frames are made smaller, which is what endpoints do with them anyway."""
_QUALITY = 90


def data_urls(
    clip: ClipSource, fps: float = FPS, max_frames: int = MAX_FRAMES, longest_side: int = LONGEST_SIDE
) -> list[str]:
    """About `fps` frames a second, `max_frames` at most, spread evenly over the whole clip, in order.

    Raises:
        MediaError: the clip is missing or damaged.
    """
    # Slow to import: what only reads answers must not wait for torch.
    from PIL import Image

    from verl_ext.data.media import read_video

    urls = []
    for frame_CHW in read_video(clip, fps=fps, max_frames=max_frames).frames_TCHW:
        image = Image.fromarray(frame_CHW.permute(1, 2, 0).contiguous().numpy())
        image.thumbnail((longest_side, longest_side))
        buffer = BytesIO()
        image.save(buffer, format="JPEG", quality=_QUALITY)
        urls.append(f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}")
    return urls
