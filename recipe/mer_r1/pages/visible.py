"""Text of models and corpora made harmless for whoever reads it."""

from __future__ import annotations

_HIDDEN = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"} | dict.fromkeys(
    # Delete, C1 controls, changes of direction, halves of surrogate pairs.
    [0x7F, *range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)],
    "\ufffd",
)


def visible(text: str) -> str:
    """Text that can do nothing to a terminal or page but be read: controls as signs, one for one."""
    return text.translate(_HIDDEN)
