"""The rows of the paper's tables as data: conf/experiment/*.yaml, read into terms. Needs no verl."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from recipe.mer_r1.method.advantage import Term, TermError, check_terms
from recipe.mer_r1.method.signals import CONFIDENCE_SIGNALS, SIGNALS

FOLDER = Path(__file__).parents[3] / "conf" / "experiment"
"""One file an experiment."""


class ExperimentError(ValueError):
    """An experiment or an override that does not exist; the message says which do."""


@dataclass(frozen=True)
class Estimator:
    """How an advantage is made of signals."""

    terms: list[Term]
    whiten: bool = False
    """Whether the advantage is whitened over the batch's tokens afterwards (GDPO)."""

    @classmethod
    def from_config(cls, terms: ListConfig, whiten: bool, least_spread: float = 0.0) -> Estimator:
        """From ``terms`` as a YAML file or an override has them, and the least spread of all of them.

        Raises TermError, naming what is wrong.
        """
        found = Term.from_config(OmegaConf.to_container(terms, resolve=True) if OmegaConf.is_config(terms) else terms)
        check_terms(found, SIGNALS)
        if not isinstance(whiten, bool):
            raise TermError(f"whiten is {whiten!r}; it must be true or false")
        if (
            isinstance(least_spread, bool)
            or not isinstance(least_spread, int | float)
            or not 0 <= least_spread < math.inf
        ):
            raise TermError(
                f"mer_r1.least_spread={least_spread!r}: give a number of 0 or more, e.g. 0.01; 0 is the paper's"
            )
        return cls([replace(term, least_spread=least_spread) for term in found], whiten)

    @property
    def needs_confidence(self) -> bool:
        """Whether a term weighs a signal of the confidence pass."""
        return any(name in CONFIDENCE_SIGNALS for term in self.terms for name in term.signals)

    def __str__(self) -> str:
        """``[recall] + 0.1·[calib_pos]``: each bracket is normalised inside the group."""
        sums = (" + ".join(_times(factor, name) for name, factor in term.signals.items()) for term in self.terms)
        terms = (_times(term.weight, f"[{found}]") for term, found in zip(self.terms, sums, strict=True))
        least = max(term.least_spread for term in self.terms)
        ends = [f", least spread {least:g}"] * (least > 0) + [", whitened"] * self.whiten
        return " + ".join(terms) + "".join(ends)


def _times(factor: float, text: str) -> str:
    return text if factor == 1 else f"{factor:g}·{text}"


def names() -> list[str]:
    """All experiments."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_experiment(name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """An experiment's file, with ``experiment.KEY=VALUE`` overrides as on a run's command line.

    Raises:
        ExperimentError: no such experiment or key; the message says which there are.
    """
    if name not in names():
        raise ExperimentError(f"unknown experiment {name!r}; use one of {', '.join(names())}")
    node = OmegaConf.load(FOLDER / f"{name}.yaml")
    root = OmegaConf.create({"experiment": node})
    OmegaConf.set_struct(root, True)
    for override in overrides:
        try:
            root.merge_with(OmegaConf.from_dotlist([override]))
        except (OmegaConfBaseException, YAMLError) as error:
            known = ", ".join(f"experiment.{key}" for key in node)
            raise ExperimentError(f"{override}: {str(error).splitlines()[0]}; use {known}") from None
    return root.experiment


def load_estimators() -> dict[str, Estimator]:
    """Every experiment's estimator as its file has it, by the name under which verl knows it."""
    nodes = map(load_experiment, names())
    return {node.estimator: Estimator.from_config(node.terms, node.whiten) for node in nodes}


def estimator_of(config: DictConfig) -> Estimator | None:
    """What ``algorithm.adv_estimator`` names: the run's own experiment, overrides included, another one as its file has
    it, or None for an estimator of verl's. ``mer_r1.least_spread`` is for both.
    """
    name, least = config.algorithm.adv_estimator, config.mer_r1.least_spread
    if name == config.experiment.estimator:
        return Estimator.from_config(config.mer_r1.terms, config.mer_r1.whiten, least)
    node = next((node for node in map(load_experiment, names()) if node.estimator == name), None)
    return None if node is None else Estimator.from_config(node.terms, node.whiten, least)


def reads_confidence(config: DictConfig) -> bool:
    """Whether the run reads slow-fast confidence: a term needs it, or ``mer_r1.confidence.always`` asks for it."""
    chosen = estimator_of(config)
    return bool(config.mer_r1.confidence.always or (chosen and chosen.needs_confidence))
