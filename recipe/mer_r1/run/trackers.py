"""Trackers beside the metrics file: each stores in the run's own folder and asks no server, unless the user says so.

verl logs to all that ``trainer.logger`` names; TensorBoard, wandb, trackio and SwanLab were tried
(docs/observability.md).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

# verl's names, and the module that each needs besides verl.
MODULES = {
    "console": None,
    "file": None,
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "trackio": "trackio",
    "swanlab": "swanlab",
    "mlflow": "mlflow",
    "clearml": "clearml",
    "vemlp_wandb": "volcengine_ml_platform",
    "rl_insight": "rl_insight",
}
_TRIED = ("tensorboard", "wandb", "trackio", "swanlab")
_WAY_OUT = (
    "run `pip install --no-deps -r requirements/track.txt` after `make setup` "
    "(GPU profile: `pip install -e '.[track]'`)"
)
NAMES = ("TENSORBOARD_DIR", "WANDB_MODE", "WANDB_DIR", "TRACKIO_DIR", "SWANLAB_MODE", "SWANLAB_LOG_DIR")
"""The variables of :func:`prepare`, for workers that do not inherit them."""


def check(loggers: str | Sequence[str]) -> str | None:
    """What is wrong with ``trainer.logger``: a name that verl does not know, or a package that is not installed."""
    names = [loggers] if isinstance(loggers, str) else list(loggers)
    unknown = [name for name in names if name not in MODULES]
    if unknown:
        return f"trainer.logger has unknown trackers {', '.join(unknown)}; verl knows {', '.join(MODULES)}."
    for name in names:
        module = MODULES[name]
        if module and find_spec(module) is None:
            install = _WAY_OUT if name in _TRIED else f"install the package with the module {module}"
            return f"trainer.logger has {name}, which is not installed: {install}, or remove it from trainer.logger."
    return None


def prepare(run_dir: str) -> None:
    """Set the variables that say where and how trackers store; a value that the user has set wins."""
    here = Path(run_dir).absolute()
    settings = {
        "TENSORBOARD_DIR": here / "tensorboard",
        "WANDB_MODE": "offline",
        "WANDB_DIR": here,  # wandb makes its own folder there
        "TRACKIO_DIR": here / "trackio",
        "SWANLAB_MODE": "offline",
        "SWANLAB_LOG_DIR": here / "swanlab",
    }
    here.mkdir(parents=True, exist_ok=True)  # wandb would store in /tmp where its folder is missing
    for name in NAMES:
        os.environ.setdefault(name, str(settings[name]))


def close() -> None:
    """Let wandb end its service process while that still answers: at the exit of a Ray actor it is gone before."""
    if wandb := sys.modules.get("wandb"):
        wandb.teardown()
