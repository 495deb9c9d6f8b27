"""The embedded default: a table of our own, so that everything runs without the official files.

`builtin_wheels.yaml` is written by hand (the wheels as facts, families of words with their nearest wheel words);
`build_builtin` adds inflected and derived forms and freezes both into `builtin_wheels.json`, which is all that is read
here. Frozen, so that scores depend on one hash and not on the version of a morphology library.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from importlib.resources import files

from recipe.mer_r1.method.wheels.table import Candidate, Wheel, WheelError, WheelTable

DATA = files("recipe.mer_r1.method.wheels")
FROZEN = "builtin_wheels.json"


@lru_cache(maxsize=1)
def load_builtin() -> WheelTable:
    """Read the frozen table. Raises WheelError where the installation lacks it."""
    try:
        content = (DATA / FROZEN).read_bytes()
    except OSError as error:
        raise WheelError(
            f"{DATA / FROZEN}: the embedded wheels are missing from this installation; "
            "install the project again, or write the file with `python -m recipe.mer_r1.method.wheels.build_builtin`"
        ) from error
    data = json.loads(content)
    wheels = tuple(Wheel.from_rows([tuple(row) for row in rows], f"w{n}") for n, rows in data["wheels"].items())
    nearest = {word: listed.split(", ") for word, listed in data["nearest"].items()}
    forms = {form: listed.split(", ") for form, listed in data["forms"].items()}

    def candidates(word: str) -> list[Candidate]:
        """A listed word's nearest wheel words; for a form of listed words theirs, in the table's order."""
        names = [word] if word in nearest else forms.get(word, [])
        return [Candidate(raw, name) for name in names for raw in nearest[name]]

    return WheelTable(
        name=data["name"],
        version=data["version"],
        sha256=hashlib.sha256(content).hexdigest(),
        wheels=wheels,
        vocabulary=nearest.keys() | forms.keys(),
        candidates=candidates,
    )
