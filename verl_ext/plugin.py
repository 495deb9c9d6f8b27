"""The verl plugin. ``import verl`` loads it in every process, through the entry point group ``verl.plugins``.

Registers the CPU platform and engine and installs the patches of :mod:`verl_ext.patches`, which bring the
Qwen2.5-Omni Thinker in. Heavy modules are imported only after verl itself has imported what they extend.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from types import ModuleType

import wrapt

from verl_ext import patches
from verl_ext.versions import check_versions

VERSIONS = check_versions()

if os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu":
    from verl_ext.platform import cpu  # noqa: F401  registers itself


@wrapt.when_imported("verl.workers.engine.fsdp.transformer_impl")
def _register_engine(_module: object) -> None:
    from verl_ext.actor import engine  # noqa: F401  registers itself


@wrapt.when_imported("verl.workers.rollout.replica")
def _register_server(module: ModuleType) -> None:
    def load() -> type:
        from verl_ext.rollout.server import GroupReplica

        return GroupReplica

    module.RolloutReplicaRegistry.register("vllm", load)


@wrapt.when_imported("verl.utils.flops_counter")
def _register_flops(_module: object) -> None:
    from verl_ext.models import flops

    flops.register()


# verl imports the checkpoint engine of Ascend's NPUs, and with it vLLM, in every process. It takes ImportError for "not
# there" and says so to whoever asks for that engine.
if find_spec("torch_npu") is None:
    sys.modules.setdefault("verl.checkpoint_engine.hccl_checkpoint_engine", None)

patches.install(patches.VERL_PATCHES)


def report() -> list[str]:
    """What this plugin added, one line each, for the start-up log."""
    lines = ["versions: " + ", ".join(f"{name} {version}" for name, version in VERSIONS.items())]
    if os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu":
        lines.append("platform: cpu (FSDP2 over gloo, vLLM's CPU build); engine: language_model on cpu")
    lines.append("model: Qwen2.5-Omni Thinker (transformers: AutoModelForImageTextToText; vLLM: OmniThinker)")
    lines += [f"patch: {patch.name} ({patch.module}): {patch.fixes}" for patch in patches.VERL_PATCHES]
    return lines


def require() -> None:
    """Stop unless verl has loaded this plugin: verl logs a plugin that failed at DEBUG level only.

    Raises:
        SystemExit: the entry point is missing or disabled.
    """
    import verl  # noqa: F401

    if "verl_ext.plugin" not in sys.modules or not _is_entry_point():
        raise SystemExit(
            "verl did not load the plugin verl_ext: install the project (`make setup`, or `pip install -e .`) and "
            "unset VERL_USE_EXTERNAL_PLUGINS or add verl_ext to it."
        )


def _is_entry_point() -> bool:
    from importlib.metadata import entry_points

    policy = os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto").strip().lower()
    allowed = policy == "auto" or "verl_ext" in {name.strip() for name in policy.split(",")}
    return allowed and any(point.name == "verl_ext" for point in entry_points(group="verl.plugins"))
