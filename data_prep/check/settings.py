"""How training will take the clips: the media settings and prompt limit of a preset (conf/preset/NAME.yaml)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from data_prep.clip import CorpusError

PRESETS = Path(__file__).parents[2] / "conf" / "preset"


def read_preset(name: str | None) -> tuple[dict[str, Any], int | None]:
    """(`media`, `max_prompt_length`) of a preset, by name or as a file; ({}, None) for None.

    Raises CorpusError where there is no such preset, or it lacks one of the two.
    """
    if name is None:
        return {}, None
    path = Path(name) if name.endswith((".yaml", ".yml")) else PRESETS / f"{name}.yaml"
    try:
        preset = yaml.safe_load(path.read_text(encoding="utf-8"))
        return dict(preset["media"]), int(preset["max_prompt_length"])
    except OSError as error:
        known = ", ".join(sorted(file.stem for file in PRESETS.glob("*.yaml")))
        raise CorpusError(f"--preset {name}: {path} cannot be read; use one of {known}, or a YAML file") from error
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise CorpusError(f"{path}: not a preset; it needs the keys media and max_prompt_length ({error!r})") from error
