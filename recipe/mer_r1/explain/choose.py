"""Which response of a batch is meant, and which experiment made its advantage."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence

from recipe.mer_r1.explain.rollout_batch import Row
from recipe.mer_r1.method.experiments import Estimator, load_experiment, names

_LISTED = 8


class ChoiceError(ValueError):
    """Nothing, or more than one thing, is meant; the message lists what there is."""


def find_row(rows: Sequence[Row], wanted: str) -> Row:
    """The response of a uid, of the beginning of one uid alone, or of a number from 1 on.

    Raises:
        ChoiceError: none, or several.
    """
    uids = [row["uid"] for row in rows]
    if wanted in uids:
        return rows[uids.index(wanted)]
    if wanted.isdecimal() and 1 <= int(wanted) <= len(rows):
        return rows[int(wanted) - 1]
    begun = [uid for uid in uids if uid.startswith(wanted)]
    if len(begun) == 1:
        return rows[uids.index(begun[0])]
    if begun:
        raise ChoiceError(f"{len(begun)} uids begin with {wanted!r}; give more characters: {_listed(begun)}")
    near = difflib.get_close_matches(wanted, uids, n=_LISTED, cutoff=0.3) or uids
    raise ChoiceError(
        f"unknown uid {wanted!r}; the file has {len(rows)} responses (numbers 1 to {len(rows)}): {_listed(near)}"
    )


def _listed(uids: Sequence[str]) -> str:
    rest = len(uids) - _LISTED
    return "".join(f"\n  {uid}" for uid in uids[:_LISTED]) + (f"\n  and {rest} more" if rest > 0 else "")


def choose_experiment(rows: Sequence[Row], overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """The experiment that the overrides name, or those whose terms the file's are.

    Returns:
        Names, several only where their terms are the same, and the overrides other than ``experiment=NAME``.

    Raises:
        ChoiceError: an override of something else, or the file's terms are of no experiment.
    """
    named, rest = [], []
    for override in overrides:
        key, equals, value = override.partition("=")
        if key == "experiment" and equals:
            named = [value]
        elif key.startswith("experiment.") and equals:
            rest.append(override)
        else:
            raise ChoiceError(f"{override!r} must be experiment=NAME or experiment.KEY=VALUE")
    return named or _of_file(rows), rest


def _of_file(rows: Sequence[Row]) -> list[str]:
    """Experiments with the terms of a batch, by the terms' names, and by whether whitening came after them."""
    wanted = set(rows[0].get("terms") or {})
    if not wanted:
        raise ChoiceError(
            "the file has no terms, because the run used one of verl's own estimators; choose the advantage to explain "
            f"with experiment=NAME, one of {', '.join(names())}"
        )
    whitened = any(not math.isclose(sum(r["terms"].values()), r["advantage"], abs_tol=1e-4) for r in rows)
    estimators = {}
    for name in names():
        node = load_experiment(name)
        estimators[name] = Estimator.from_config(node.terms, node.whiten)
    found = [name for name, estimator in estimators.items() if {term.name for term in estimator.terms} == wanted]
    found = [name for name in found if estimators[name].whiten == whitened] or found
    if not found:
        raise ChoiceError(
            f"no experiment in conf/experiment has the terms {', '.join(sorted(wanted))} of the file; choose the "
            f"nearest with experiment=NAME ({', '.join(names())}) and change it with experiment.KEY=VALUE"
        )
    return [name for name in found if estimators[name] == estimators[found[0]]]
