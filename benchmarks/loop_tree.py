"""A checkout of another revision in a temporary folder, and whether two trees can be compared. Used by loop.py."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]

WORK = (
    "preset.seed",
    "preset.prompts_per_step",
    "preset.responses_per_prompt",
    "preset.max_prompt_length",
    "preset.max_response_length",
    "preset.model_path",
    "preset.train_files",
    "preset.media.fps",
    "preset.media.max_frames",
    "preset.media.min_pixels",
    "preset.media.max_pixels",
    "preset.media.sampling_rate",
    "preset.media.max_seconds",
    "preset.media.use_audio_in_video",
    "preset.model_dtype",
    "preset.ranks_per_node",
    "actor_rollout_ref.rollout.temperature",
    "actor_rollout_ref.actor.use_kl_loss",
)
"""What makes the work of a step. It must be equal in both trees; how the work is done may differ."""

_FIND = """
import importlib.metadata, importlib.util, json
names = {"verl_ext", "recipe.mer_r1.main_ppo"}
groups = ("verl.plugins", "vllm.general_plugins")
points = [point for group in groups for point in importlib.metadata.entry_points(group=group)]
names |= {point.module for point in points if point.name == "verl_ext"}
found = {name: importlib.util.find_spec(name) for name in names}
print(json.dumps({name: spec and spec.origin for name, spec in found.items()}))
"""


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """A git worktree of a revision of this repository; it is removed at the end.

    Raises:
        SystemExit: the revision is not known.
    """
    commit = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if commit is None:
        raise SystemExit(f"--against {revision}: git knows no such revision in {ROOT}")
    with tempfile.TemporaryDirectory(prefix="mer-r1-against-") as folder:
        tree = Path(folder) / "tree"
        if _git("worktree", "add", "--detach", str(tree), commit) is None:
            raise SystemExit(f"--against {revision}: git could not check it out into {tree}")
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def name_of(tree: Path) -> str:
    """The short commit of a tree; with "+" where tracked files have been changed."""
    described = _git("describe", "--always", "--dirty=+", "--exclude=*", tree=tree)
    return described or "unknown"


def _git(*arguments: str, tree: Path = ROOT) -> str | None:
    """What git prints; None where it fails."""
    done = subprocess.run(["git", "-C", str(tree), *arguments], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def _python(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """This interpreter with the code of a tree, as the runs have it."""
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    return subprocess.run([sys.executable, *arguments], cwd=tree, env=environment, capture_output=True, text=True)


def require_own_code(tree: Path) -> None:
    """Check that a process in a tree imports that tree's code, the plugins of verl and vLLM too; then compile it.

    Both trees run in one environment, in which the project is installed from one of them. The plugins are named there,
    as modules of `verl_ext`, and the search path decides from which tree these modules come.

    Raises:
        SystemExit: a module comes from elsewhere or does not exist, or the tree asks for other plugins.
    """
    done = _python(tree, "-c", _FIND)
    if done.returncode:
        raise SystemExit(f"{tree}: {done.stderr.strip()}")
    for name, origin in foreign(json.loads(done.stdout), tree).items():
        raise SystemExit(
            f"{name} of {tree} is imported from {origin}. A comparison would run the wrong code. Install the project "
            "with `make setup`, and do not set PYTHONPATH or PYTHONSAFEPATH."
        )
    ours, theirs = (entry_points((folder / "setup.py").read_text()) for folder in (ROOT, tree))
    if ours != theirs:
        raise SystemExit(f"{tree}/setup.py has other entry points than this tree: {theirs} instead of {ours}.")
    # Byte code, so that start-up is not longer for a fresh checkout.
    _python(tree, "-m", "compileall", "-q", "recipe", "verl_ext", "data_prep")


def foreign(origins: Mapping[str, str | None], tree: Path) -> dict[str, str]:
    """Of modules and the files they come from: those that do not come from a tree."""
    folder = tree.resolve()
    return {
        name: origin or "nowhere"
        for name, origin in origins.items()
        if origin is None or not Path(origin).resolve().is_relative_to(folder)
    }


def entry_points(setup: str) -> dict[str, list[str]]:
    """The argument `entry_points` of `setup(…)` in the text of a setup.py; empty where it has none."""
    for node in ast.walk(ast.parse(setup)):
        if isinstance(node, ast.keyword) and node.arg == "entry_points":
            return ast.literal_eval(node.value)
    return {}


def composed(tree: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration of main_ppo in a tree.

    Raises:
        SystemExit: the tree does not know one of the overrides.
    """
    done = _python(tree, "-m", "recipe.mer_r1.main_ppo", *overrides, "--cfg", "job", "--resolve")
    if done.returncode:
        text = (done.stderr or done.stdout).strip()
        raise SystemExit(f"{text}\n{tree} cannot compose these overrides. Use only keys that both trees know.")
    return yaml.safe_load(done.stdout)


def different_work(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The keys of WORK that differ between two configurations, with both values; a missing key has None."""
    pairs = {key: [_value(config, key) for config in (ours, theirs)] for key in WORK}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def require_same_work(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Refuse two configurations whose steps are not the same work.

    Raises:
        SystemExit: names the keys.
    """
    lines = [f"  {key}: {one!r} here, {other!r} there" for key, (one, other) in different_work(ours, theirs).items()]
    if lines:
        raise SystemExit("\n".join(["The two trees would do different work. Override these keys:", *lines]))


def _value(config: Mapping[str, Any], key: str) -> Any:
    for name in key.split("."):
        if not isinstance(config, Mapping):
            return None
        config = config.get(name)
    return config
