"""What a check is and what it says; the one place where a check's unexpected error is caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal

from omegaconf import DictConfig

from recipe.mer_r1.run import launch

# Not `pip install -e ".[gpu]"`: a resolver need not choose the versions that are pinned.
INSTALL_GPU = 'install requirements/gpu.txt as docs/presets.md says ("A GPU machine")'

Status = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What a check found.

    Attributes:
        status: failed: the job cannot run; warning: it can, but something is missing that others need.
        seen: one line.
        fix: one line, "" where there is nothing to fix.
    """

    status: Status
    seen: str
    fix: str = ""


def ok(seen: str) -> Outcome:
    return Outcome("ok", seen)


def warning(seen: str, fix: str) -> Outcome:
    return Outcome("warning", seen, fix)


def failed(seen: str, fix: str) -> Outcome:
    return Outcome("failed", seen, fix)


@dataclass(frozen=True)
class Subject:
    """What is looked at.

    Attributes:
        preset_name: of conf/preset/.
        model: a model folder that the user named; None: the preset's, which need not exist yet.
        wheels: folder of the official wheels, or wheel_mapping.npz; None: the built-in table.
    """

    preset_name: str
    model: str | None = None
    wheels: str | None = None

    @cached_property
    def config(self) -> DictConfig:
        """RL's configuration with the preset. Raises what composing raises."""
        return launch.compose("ppo", [f"preset={self.preset_name}"])

    @property
    def preset(self) -> DictConfig:
        return self.config.preset

    @property
    def model_path(self) -> str:
        return self.model or self.preset.model_path


@dataclass(frozen=True)
class Check:
    """A named check.

    Attributes:
        name: shown; unique.
        function: looks, changes nothing that lasts.
        needs_preset: cannot be done without a preset that composes.
    """

    name: str
    function: Callable[[Subject], Outcome]
    needs_preset: bool = False


@dataclass(frozen=True)
class Result:
    """A check's name and its outcome, flat."""

    name: str
    status: Status
    seen: str
    fix: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def run(check: Check, subject: Subject, composes: bool) -> Result:
    """The check's result, whatever happens inside it."""
    try:
        if check.needs_preset and not composes:
            outcome = warning("not checked: the preset cannot be loaded", "fix the check `preset` first")
        else:
            outcome = check.function(subject)
    except (Exception, SystemExit) as error:  # SystemExit: what preflight and the plugin stop a run with
        outcome = failed(f"{type(error).__name__}: {error}", "the doctor does not know this error")
    return Result(check.name, outcome.status, one_line(outcome.seen), one_line(outcome.fix))


def one_line(text: str) -> str:
    return " ".join(text.split())


def of_message(message: str) -> Outcome:
    """A failure out of a preflight message: its first sentence is what was seen, the rest is the way out."""
    seen, _, fix = one_line(message).partition(". ")
    return failed(seen, fix or "see the message")
