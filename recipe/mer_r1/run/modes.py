"""Checks of ``mode=separate_async`` before anything starts: that its pools, its staleness and its transport can be."""

from __future__ import annotations

from omegaconf import DictConfig


class ModeError(ValueError):
    """A mode that cannot run; names the key and the way out."""


def check_mode(config: DictConfig) -> None:
    """Nothing to check where rollout and actor share their devices.

    Raises:
        ModeError: no server fits into the rollout's pool, prompts would be dropped for their age as a rule, or the
            weights have no way to the rollout.
    """
    if not config.trainer.v1.trainer_mode.endswith("separate_async"):
        return
    rollout, settings = config.actor_rollout_ref.rollout, config.trainer.v1.separate_async
    size = rollout.tensor_model_parallel_size
    ranks = rollout.nnodes * rollout.n_gpus_per_node
    if ranks < 1 or ranks % size:
        raise ModeError(
            f"mode.rollout_nodes × mode.rollout_ranks_per_node = {ranks} must be a positive multiple of "
            f"preset.rollout.tensor_parallel={size}, the ranks of one vLLM server. See mode=separate_async."
        )
    if settings.parameter_sync_step < 1:
        raise ModeError(f"mode.updates_per_sync={settings.parameter_sync_step} must be 1 or more.")
    threshold = config.trainer.v1.sampler.max_off_policy_threshold
    if threshold is not None and settings.num_warmup_batches >= threshold:
        raise ModeError(
            f"mode.prefetch={settings.num_warmup_batches} must be less than mode.max_versions={threshold}: else most "
            "prompts are dropped as too old. Lower mode.prefetch, or raise mode.max_versions."
        )
    _check_transport(rollout.checkpoint_engine.backend, rollout.checkpoint_engine.custom_backend_module)


def _check_transport(backend: str, module: str | None) -> None:
    from verl.checkpoint_engine import CheckpointEngineRegistry
    from verl.utils.import_utils import import_external_libs

    import_external_libs(module)
    try:
        CheckpointEngineRegistry.get(backend)
    except ValueError as error:
        raise ModeError(f"mode.weights={backend}: {error}. Use mode.weights=gloo, which always works.") from error
    if backend == "naive":
        raise ModeError("mode.weights=naive works only within one process. Use mode.weights=gloo, which always works.")
