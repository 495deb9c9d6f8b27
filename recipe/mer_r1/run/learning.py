"""Whether a run still learns: rules with plain thresholds on its metrics by step, for the screen and the live page.

Each rule looks at the latest :data:`WINDOW` steps, so that one unlucky step warns of nothing. A warning says what was
seen, the likely cause, and what to change. A non-finite loss or gradient also ends the run before the weights are
changed (:mod:`verl_ext.actor.finite`); the rule here is for runs of other engines and for old metrics files.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Data = Mapping[str, Any]
"""Metrics of one step."""

WINDOW = 3
"""Steps in a row for which a rule must hold."""
KL_BOUND = 1.0
"""Nats per token: the mean of ``actor/kl_loss`` over the window. The runs of the demo stay below 0.04."""
ENTROPY_FACTOR, ENTROPY_RISE = 2.0, 1.0
"""Entropy has grown where its mean over the window is over both: this factor times that of the first steps, and that
of the first steps plus this number of nats per token. In the runs of the demo it moves by 0.06 nats."""
LOSS_FACTOR, LOSS_RISE, LOSS_WINDOW = 1.5, 0.5, 10
"""The loss of SFT has grown where its mean over ten steps is over both: this factor times the lowest mean over ten
steps before, and that mean plus this number of nats."""
ZERO_SHARE = 0.5
"""Mean share of groups in which recall and precision of all answers are 0."""
CUT_SHARE = 0.5
"""Share of responses at the length limit from which the limit is named as the likely cause of format 0."""

_UPDATE = tuple(f"actor/{name}" for name in ("loss", "pg_loss", "kl_loss", "grad_norm", "entropy"))
_FINITE = (*_UPDATE, "train/loss", "train/grad_norm")
_TRAINED = ("reward/format", "actor/grad_norm", "train/loss")


@dataclass(frozen=True)
class Warned:
    """A rule that holds, or held.

    Attributes:
        rule: its name.
        first, last: the steps between which it held, the latest time.
        text: what was seen at ``last``, the likely cause, and what to change.
        now: whether it holds at the latest step.
    """

    rule: str
    first: int
    last: int
    text: str
    now: bool = True

    @property
    def steps(self) -> str:
        """``step 3``, or ``steps 3 to 9``."""
        return f"step {self.last}" if self.first == self.last else f"steps {self.first} to {self.last}"

    def __str__(self) -> str:
        return f"{self.steps}: {self.text}"


@dataclass
class Seen:
    """What the rules read: the first steps of a run, the latest ones, and the lowest mean loss of SFT until now."""

    first: list[Data] = field(default_factory=list)
    rows: deque[Data] = field(default_factory=lambda: deque(maxlen=LOSS_WINDOW))
    lowest_loss: float = math.inf

    @property
    def window(self) -> list[Data]:
        """The latest :data:`WINDOW` steps; empty while there are fewer."""
        return list(self.rows)[-WINDOW:] if len(self.rows) >= WINDOW else []


class Watch:
    """The rules on a run, step by step; ``steps`` are those already taken, of a resumed run."""

    def __init__(self, steps: Mapping[int, Data] | None = None):
        self._seen, self._latest = Seen(), 0
        self._found: dict[str, Warned] = {}
        for number, data in sorted((steps or {}).items()):
            self.add(number, data)

    def add(self, step: int, data: Data) -> list[Warned]:
        """Take a step into account; the metrics of a validation alone are left out.

        Returns:
            The warnings that begin with this step.
        """
        if not any(key in data for key in _TRAINED):
            return []
        if len(self._seen.first) < WINDOW:
            self._seen.first.append(data)
        self._seen.rows.append(data)
        new = []
        for name, rule in RULES.items():
            text, before = rule(self._seen), self._found.get(name)
            if text and before and before.last == self._latest:
                self._found[name] = replace(before, last=step, text=text)
            elif text:
                self._found[name] = Warned(name, step, step, text)
                new.append(self._found[name])
        self._seen.lowest_loss = min(self._seen.lowest_loss, _loss(self._seen))
        self._latest = step
        return new

    def tell(self, step: int, data: Data, say: Callable[[str], object] = print) -> None:
        """As :meth:`add`, and print the warnings that begin with this step."""
        for found in self.add(step, data):
            say(f"WARNING: {found}")

    def found(self) -> list[Warned]:
        """Every rule that held at some step, with its latest time; those that hold now first."""
        marked = [replace(found, now=found.last == self._latest) for found in self._found.values()]
        return sorted(marked, key=lambda found: not found.now)


def warned(steps: Mapping[int, Data]) -> list[Warned]:
    """:meth:`Watch.found` of metrics by step."""
    return Watch(steps).found()


def _no_format(seen: Seen) -> str | None:
    if not _all_zero(seen, "reward/format"):
        return None
    cut = _mean(seen.window, "response_length/clip_ratio")
    if cut >= CUT_SHARE:
        cause = (
            f"{cut:.0%} of the responses are cut off at the length limit. Raise preset.max_response_length; if they "
            "are no sentences, start from a model of main_sft (preset.model_path)"
        )
    else:
        cause = (
            "the model was not trained on the form that the run asks for. Start from a model of main_sft with the same "
            "form (preset.model_path, experiment.form)"
        )
    return f"no answer of the last {WINDOW} steps has the required form (reward/format is 0). Likely cause: {cause}."


def _no_reward(seen: Seen) -> str | None:
    if _all_zero(seen, "reward/format") or not all(_all_zero(seen, f"reward/{s}") for s in ("recall", "precision")):
        return None
    if _all_zero(seen, "reward/num_words"):
        cause = (
            "the answers have no words. Look at some of them (trainer.rollout_data_dir=DIR) and train SFT for longer"
        )
    else:
        cause = (
            "no word of the answers is on a wheel, or none fits the labels. Look at some of them "
            "(trainer.rollout_data_dir=DIR), and check the language of answers and labels, mer_r1.wheels.folder and "
            "the SFT model"
        )
    return f"recall and precision of all answers of the last {WINDOW} steps are 0. Likely cause: {cause}."


def _constant(seen: Seen) -> str | None:
    if _no_format(seen) or _no_reward(seen):
        return None  # the cause is named there
    window = seen.window
    own = bool(window) and all(_number(row, "advantage/std") == 0 for row in window)
    ends = [f"critic/advantages/{end}" for end in ("min", "max")]  # of verl's own estimators
    verls = bool(window) and all(_number(row, end) == 0 for row in window for end in ends)
    if not own and not verls:
        return None
    return (
        f"all advantages of the last {WINDOW} steps are 0: the answers of each group have the same rewards, and "
        "nothing is learnt. Likely cause: all answers to a prompt are the same. Raise preset.responses_per_prompt or "
        "actor_rollout_ref.rollout.temperature, or use harder prompts."
    )


def _zero_groups(seen: Seen) -> str | None:
    share = _mean(seen.window, "advantage/zero_groups")
    if _no_format(seen) or _no_reward(seen) or not share > ZERO_SHARE:
        return None
    return (
        f"in {share:.0%} of the groups recall and precision of all answers are 0. There the other terms alone train, "
        "and tiny differences of confidence count in full. Likely cause: the prompts are too hard for the SFT model, "
        "or their labels are on no wheel. Train SFT for longer, use easier prompts, or set mer_r1.least_spread."
    )


def _entropy(seen: Seen) -> str | None:
    first, now = _mean(seen.first, "actor/entropy"), _mean(seen.window, "actor/entropy")
    if not (now > ENTROPY_FACTOR * first and now > first + ENTROPY_RISE):
        return None
    return (
        f"the entropy has grown from {first:.2g} to {now:.2g} nats per token. Likely cause: the policy loses what SFT "
        "has taught. Lower preset.lr, raise preset.kl_coef, and continue from an earlier checkpoint."
    )


def _kl(seen: Seen) -> str | None:
    now = _mean(seen.window, "actor/kl_loss")
    if not now > KL_BOUND:
        return None
    return (
        f"the KL to the reference is {now:.2g} nats per token (bound: {KL_BOUND:g}). Likely cause: the learning rate "
        "is too high or β too small. Lower preset.lr or raise preset.kl_coef, and continue from an earlier checkpoint."
    )


def _sft_loss(seen: Seen) -> str | None:
    now, best = _loss(seen), seen.lowest_loss
    if not (math.isfinite(now) and now > LOSS_FACTOR * best and now > best + LOSS_RISE):
        return None
    return (
        f"the loss has grown from {best:.2g} to {now:.2g} (means over {LOSS_WINDOW} steps). Likely cause: the learning "
        "rate is too high. Lower preset.sft.lr."
    )


def _not_finite(seen: Seen) -> str | None:
    row = seen.rows[-1]
    names = [name for name in _FINITE if name in row and not _finite(row, name)]
    if not names:
        return None
    return (
        f"{', '.join(names)} is not a finite number. Likely cause: the learning rate is too high, or the model's "
        "weights are damaged. Lower preset.lr (SFT: preset.sft.lr), check the model with "
        "`python -m recipe.mer_r1.doctor --model DIR`, and continue from a checkpoint before this step."
    )


RULES: dict[str, Callable[[Seen], str | None]] = {
    "not_finite": _not_finite,
    "no_format": _no_format,
    "no_reward": _no_reward,
    "constant_groups": _constant,
    "zero_groups": _zero_groups,
    "entropy": _entropy,
    "kl": _kl,
    "sft_loss": _sft_loss,
}
"""What a rule says of a run now, by its name; None where it does not hold."""


def _number(row: Data, key: str) -> float | None:
    """The value as a float; None where there is none (some writers put null for NaN)."""
    value = row.get(key)
    return None if value is None else float(value)


def _finite(row: Data, key: str) -> bool:
    value = _number(row, key)
    return value is not None and math.isfinite(value)


def _mean(rows: Sequence[Data], key: str) -> float:
    """Mean of the finite values; NaN without any."""
    values = [float(row[key]) for row in rows if _finite(row, key)]
    return statistics.fmean(values) if values else math.nan


def _all_zero(seen: Seen, key: str) -> bool:
    return bool(seen.window) and all(_number(row, key) == 0 for row in seen.window)


def _loss(seen: Seen) -> float:
    """Mean loss of SFT over the latest ten steps; infinite while there are fewer."""
    whole = len(seen.rows) == LOSS_WINDOW and all(_finite(row, "train/loss") for row in seen.rows)
    return _mean(list(seen.rows), "train/loss") if whole else math.inf
