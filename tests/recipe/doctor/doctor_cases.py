"""What the doctor's tests share: a subject with overrides, and an installed project made of metadata alone."""

from __future__ import annotations

from pathlib import Path

from recipe.mer_r1.doctor.outcome import Subject
from recipe.mer_r1.run import launch

FAKE = "mer-r1-fake"


def subject(*overrides: str, **named: str | None) -> Subject:
    """The tiny preset with overrides of RL's configuration."""
    made = Subject("tiny", **named)
    vars(made)["config"] = launch.compose("ppo", list(overrides))
    return made


def fake_project(folder: Path, *lines: str) -> None:
    """Metadata as an installer leaves it, to be found when ``folder`` is on the path."""
    info = folder / "mer_r1_fake-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", f"Name: {FAKE}", "Version: 0.1", *lines]) + "\n")
