"""verl's task runner, told about this recipe's trainer; nothing is left running, also after an error or Ctrl-C."""

from __future__ import annotations

import importlib
from contextlib import suppress
from typing import Any

import ray
from omegaconf import DictConfig, OmegaConf
from verl.trainer.main_ppo import TaskRunnerV1, run_ppo
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config

from recipe.mer_r1.run import launch, leftovers, ray_cluster, stop, trackers, watch
from verl_ext import plugin

# Ray kills a server that takes longer; its engine has `watch.ENGINE_SECONDS`.
SHUTDOWN_SECONDS = 20


class MerTaskRunner(TaskRunnerV1.__ray_metadata__.modified_class):
    """Runs in a Ray actor of its own."""

    def run(self, config: DictConfig) -> Any:
        plugin.require()
        print("verl_ext\n  " + "\n  ".join(plugin.report()))
        from recipe.mer_r1.training import estimator, trainer  # noqa: F401  registers the trainer modes mer_r1_*

        estimator.register(config)
        for module in config.mer_r1.plugins:
            importlib.import_module(module)
        self._started_early = config.trainer.device == "cpu" and config.trainer.nnodes == 1
        if self._started_early:
            start_rollout(config)
        try:
            with watch.engine_deaths():
                return super().run(config)
        finally:
            trackers.close()
            # Here, because the servers end with this actor: when it returns, the driver is too late.
            stop_rollout_servers()

    def init_agent_loop_manager(self) -> None:
        """verl's; all processes of the rollout are there when it returns."""
        super().init_agent_loop_manager()
        if self._started_early:
            end_untaken()


def run(config: DictConfig) -> None:
    """Validate as verl does, start Ray, train, stop vLLM and Ray; `stop.Stopped` after a stop by signal.

    Raises:
        DeadProcessError: a process of the run has died.
    """
    # Workers of a cluster that is already up do not inherit this process' environment.
    environment = launch.forwarded_environment()
    OmegaConf.update(config, "ray_kwargs.ray_init.runtime_env.env_vars", environment, force_add=True)
    ray_cluster.join_where_named(config)
    validate_config(config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    with stop.on_signal(config.run_dir, "main_ppo"):
        try:
            with watch.deaths(config.mer_r1.dead_process_seconds):
                run_ppo(config, task_runner_class=ray.remote(MerTaskRunner))
        except KeyboardInterrupt:
            # Of this machine. Those of another one end when the job does, which takes longer.
            leftovers.end_ray_workers()
            raise
        finally:
            if ray.is_initialized():
                stop_rollout_servers()  # those that are left, of another machine or after an error
                ray.shutdown()


def start_rollout(config: DictConfig) -> None:
    """Start the rollout's processes, so that they import while the actor is built."""
    from verl_ext.rollout import agent_loop, server

    rollout = config.actor_rollout_ref.rollout
    if config.actor_rollout_ref.get("hybrid_engine", True):
        server.start_early(config.trainer.n_gpus_per_node // rollout.tensor_model_parallel_size, rollout)
    for _ in range(rollout.agent.num_workers):
        agent_loop.WORKERS.start()


def end_untaken() -> None:
    """End what was started early and not taken, and say so: verl may give its actors other names."""
    from verl_ext.rollout import agent_loop, server

    for early in (server.SERVERS, agent_loop.WORKERS):
        if left := early.end_untaken():
            print(f"verl_ext: started early as {early.worker.__name__}, but not used, and ended: {', '.join(left)}")


def stop_rollout_servers() -> None:
    """Let each vLLM engine end by itself: Ray would kill it, and its shared-memory ring would stay in /dev/shm."""
    calls = []
    for name in ray.util.list_named_actors():  # of this job's namespace: other jobs may share the cluster
        if name.startswith(watch.SERVERS):
            # It ends with the trainer that made it, and may have done so since it was listed.
            with suppress(ValueError):
                calls.append(ray.get_actor(name).__ray_call__.remote(watch.shut_engine_down))
    if calls:
        ray.wait(calls, num_returns=len(calls), timeout=SHUTDOWN_SECONDS)
