"""The form of a response that a saved model was trained on (:data:`recipe.mer_r1.method.answer.FORMS`).

``main_sft`` and ``main_ppo`` keep their configuration in RUN/config.yaml, beside RUN/model; an export has it in its
lineage.json. A model of another origin says nothing about its form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from recipe.mer_r1.method import experiments
from recipe.mer_r1.method.answer import FORMS
from recipe.mer_r1.run import record

LINEAGE = "lineage.json"
"""What ``export`` writes into the folder of a model."""
_KEY = "data.form"


class FormError(ValueError):
    """A model was trained on another form than a run asks for."""


@dataclass(frozen=True)
class Trained:
    """The form that a model was last trained on, and the file that says so."""

    form: str
    source: Path


def form_of(model: str) -> Trained | None:
    """The form of a model folder by its lineage; None where nothing says it, as of a model on a hub."""
    folder = Path(model)
    if not folder.is_dir():
        return None
    lineage, run_dir = folder / LINEAGE, folder.resolve().parent
    if lineage.is_file():
        return _trained(of_lineage(json.loads(lineage.read_text(encoding="utf-8"))), lineage)
    config = record.read_config(run_dir)
    return _trained(OmegaConf.select(config, _KEY), run_dir / record.CONFIG) if config is not None else None


def check_model_form(config: DictConfig) -> None:
    """The model of an RL run was trained on the form that the experiment asks for, or nothing says on which.

    Raises:
        FormError: names both forms and what to do.
    """
    trained, path = form_of(config.preset.model_path), config.preset.model_path
    if not config.mer_r1.check_form or trained is None or trained.form == config.data.form:
        return
    fitting = ", ".join(name for name in experiments.names() if experiments.load_experiment(name).form == trained.form)
    raise FormError(
        f"experiment.form={config.data.form} (experiment={config.experiment.name}), but preset.model_path={path} was "
        f"trained with the form {trained.form} ({trained.source}). Set preset.model_path to a model that `main_sft "
        f"data.form={config.data.form}` trained, or choose an experiment of the model's form ({fitting}). To start "
        "anyway, set mer_r1.check_form=false."
    )


def of_lineage(lineage: Mapping[str, Any]) -> str | None:
    """The form that the last stage of an export's lineage trained; None where it has no configuration."""
    return ((lineage["stages"][0]["config"] or {}).get("data") or {}).get("form")


def _trained(form: str | None, source: Path) -> Trained | None:
    return Trained(form, source) if form in FORMS else None
