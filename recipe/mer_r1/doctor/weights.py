"""The headers of a model folder's weights: enough to see missing or cut-off files, and to count parameters."""

from __future__ import annotations

import json
import math
from pathlib import Path


def fault(folder: str | Path) -> str | None:
    """What is wrong with the folder's weight files: one that the index names is absent, or one is cut off; or None."""
    from safetensors import SafetensorError, safe_open

    folder = Path(folder)
    index = folder / "model.safetensors.index.json"
    named = set(json.loads(index.read_text())["weight_map"].values()) if index.is_file() else set()
    absent = sorted(name for name in named if not (folder / name).is_file())
    if absent:
        return f"{index.name} lists {', '.join(absent)}, which {'does' if len(absent) == 1 else 'do'} not exist"
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "np"):
                pass
        except SafetensorError as error:
            return f"{file.name} cannot be read ({error})"
    return None


def thinker_parameters(folder: str | Path) -> int | None:
    """Number of the Thinker's parameters in the folder's weights; None where there are none."""
    from safetensors import safe_open

    files = sorted(Path(folder).glob("*.safetensors"))
    if not files or fault(folder):
        return None
    total = 0
    for file in files:
        with safe_open(file, "np") as tensors:
            names = [name for name in tensors.keys() if name.startswith("thinker.")]  # noqa: SIM118  no mapping
            total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in names)
    return total
