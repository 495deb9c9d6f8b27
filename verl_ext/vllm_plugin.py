"""The vLLM plugin (entry point group ``vllm.general_plugins``): loaded in every process of vLLM's."""

from __future__ import annotations

ARCHITECTURES = ("Qwen2_5OmniModel", "Qwen2_5OmniThinkerForConditionalGeneration")


def register() -> None:
    """Register our Thinker class with vLLM and install our patches; end with the process' parent.

    Called once per process by vLLM.
    """
    from vllm import ModelRegistry
    from vllm.platforms import current_platform

    from verl_ext import patches, vllm_patches
    from verl_ext.platform import orphans
    from verl_ext.versions import check_versions

    check_versions()
    orphans.end_with_parent()
    for architecture in ARCHITECTURES:
        ModelRegistry.register_model(architecture, "verl_ext.rollout.vllm_model:OmniThinker")
    patches.install(vllm_patches.VLLM_PATCHES)
    if current_platform.is_cpu():
        patches.install(vllm_patches.VLLM_CPU_PATCHES)
