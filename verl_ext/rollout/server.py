"""verl's vLLM server, which also takes all responses of a prompt in one call (:mod:`verl_ext.rollout.group`)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from omegaconf import DictConfig
from ray import cloudpickle
from verl.workers.rollout import router
from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer, vLLMReplica
from vllm.sampling_params import RequestOutputKind

from verl_ext.rollout.early import Early
from verl_ext.rollout.weight_socket import JOB_ID, run_id


class GroupServer(vLLMHttpServer):
    """verl's server and :meth:`generate_group`."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        os.environ[JOB_ID] = run_id()  # for vLLM's own processes, which start later

    async def generate_group(
        self,
        prompt_ids: list[int],
        sampling_params: Sequence[dict[str, Any]],
        request_id: str,
        priority: int,
        media: dict[str, Any],
    ) -> list[Any]:
        """One response for each of the sampling parameters.

        vLLM is asked for the end of each response only, and not for its text: verl reads token ids and log-probs.

        Returns:
            verl's ``TokenOutput`` by response.
        """
        quiet = {"output_kind": RequestOutputKind.FINAL_ONLY, "detokenize": False}
        return await asyncio.gather(
            *(
                self.generate(prompt_ids, {**one, **quiet}, f"{request_id}-{place}", priority=priority, **media)
                for place, one in enumerate(sampling_params)
            )
        )


SERVERS = Early(GroupServer)


def start_early(number: int, rollout: DictConfig) -> None:
    """Start the servers of a run's replicas, as verl names them; the arguments follow.

    Args:
        number: of replicas.
        rollout: ``actor_rollout_ref.rollout``.
    """
    # The load balancer's process then does not import verl either.
    cloudpickle.register_pickle_by_value(router)
    calls = vLLMReplica.max_concurrency.fget(SimpleNamespace(config=rollout))  # reads the configuration alone
    for replica in range(number):
        SERVERS.start(f"vllm_server_{replica}_0", runtime_env={"env_vars": {}}, max_concurrency=calls)


class GroupReplica(vLLMReplica):
    """verl's replica with :class:`GroupServer`."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.server_class = SERVERS
