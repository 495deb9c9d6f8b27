"""Reads `wheel_mapping.npz`, the one file in which MER2026's scorer keeps its wheels.

It holds three pickled dicts, which are read by an unpickler that admits plain data alone (`plain_npz`):
`format_mapping` (form → base forms), `raw_mapping` (base form → wheel words) and `wheel_map_whole` (wheel1 … wheel5 →
level1 or level2 → wheel word → category). They are what `official` makes of the xlsx and csv files, so both give the
same categories.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from recipe.mer_r1.method.wheels.plain_npz import NpzError, read_npz
from recipe.mer_r1.method.wheels.table import Candidate, Wheel, WheelError, WheelTable

MAPPING_FILE = "wheel_mapping.npz"
FORMS, SYNONYMS, WHEELS = KEYS = ("format_mapping", "raw_mapping", "wheel_map_whole")
_NUMBER = 5


def load_mapping(path: Path) -> WheelTable:
    """Read the file. Raises WheelError, naming file and key, where it is not such a file or asks for more than data."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        content = read_npz(path)
    except (OSError, NpzError) as error:
        raise WheelError(str(error) if isinstance(error, NpzError) else f"{path}: cannot be read ({error})") from error
    if missing := [key for key in KEYS if key not in content]:
        raise WheelError(
            f"{path}: no key {', '.join(missing)}; it has {', '.join(content) or 'none'}. The wheels of MER2026 are "
            f"in {MAPPING_FILE}, with the keys {', '.join(KEYS)}"
        )
    forms, synonyms = (_lists(content[key], f"{path}, {key}") for key in (FORMS, SYNONYMS))
    wheels = _wheels(content[WHEELS], f"{path}, {WHEELS}")

    def candidates(word: str) -> list[Candidate]:
        """As of the xlsx files: all candidates of all base forms, pooled and sorted."""
        pooled = {(raw, name) for name in forms.get(word, ()) for raw in synonyms.get(name, ())}
        return [Candidate._make(pair) for pair in sorted(pooled)]

    return WheelTable(
        name=path.resolve().parent.name,
        version="official, npz",
        sha256=digest,
        wheels=wheels,
        vocabulary=forms,
        candidates=candidates,
    )


def _lists(value: Any, where: str) -> dict[str, list[str]]:
    """A dict from word to words."""
    for key, words in _dict(value, where).items():
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise WheelError(f"{where}: {key!r} is not followed by a list of words, but by {words!r:.60}")
    return value


def _wheels(value: Any, where: str) -> tuple[Wheel, ...]:
    maps = _dict(value, where)
    names = [f"wheel{number}" for number in range(1, _NUMBER + 1)]
    if sorted(maps) != names:
        raise WheelError(f"{where}: has {', '.join(sorted(maps)) or 'nothing'}; expected {', '.join(names)}")
    return tuple(_wheel(maps[name], f"{where}, {name}") for name in names)


def _wheel(value: Any, where: str) -> Wheel:
    levels = _dict(value, where)
    found = []
    for level in ("level1", "level2"):
        if level not in levels:
            raise WheelError(f"{where}: no {level}; it has {', '.join(levels) or 'nothing'}")
        words = _dict(levels[level], f"{where}, {level}")
        if odd := [word for word, category in words.items() if not isinstance(category, str)]:
            raise WheelError(f"{where}, {level}: the category of {odd[0]!r} is not a word, but {words[odd[0]]!r:.60}")
        found.append(words)
    return Wheel.from_maps(*found, where)


def _dict(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise WheelError(f"{where}: is not a dict with words as keys, but {type(value).__name__}")
    return value
