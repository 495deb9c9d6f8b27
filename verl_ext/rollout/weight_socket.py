"""The name of the socket on which the actor tells vLLM where its new weights are: one of its own for every run.

verl names the file ``/tmp/rl-colocate-zmq-JOB-replica-R-rank-N.sock``, where JOB is Ray's job id, so that two runs on a
machine do not meet. But every Ray cluster counts its jobs from 1, and each of our runs has a cluster of its own: all
have the job id 01000000. If two of them send weights at the same time, one removes the other's socket, and vLLM waits
for weights that never come, or loads those of the other run. The cluster's address makes the name unique.
"""

from __future__ import annotations

import functools
import re
from types import ModuleType
from typing import Any

import ray

JOB_ID = "VERL_RAY_JOB_ID"
"""Environment variable of vLLM's processes, from which the receiver makes the name."""


def run_id() -> str:
    """Of the cluster and the job of this process, as part of a file name."""
    context = ray.get_runtime_context()
    return re.sub(r"[^\w.]+", "_", f"{context.gcs_address}_{context.get_job_id()}")


def patch_sender(module: ModuleType) -> None:
    """Make verl's ``ServerAdapter`` use :func:`run_id`. Its receiver reads it from :data:`JOB_ID`.

    Where prefill and decoding are apart, verl itself sets the variable for its servers, so that nothing is changed.
    """
    original = module.ServerAdapter.__init__

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if self._pd_role is None:
            job = ray.get_runtime_context().get_job_id()
            self.zmq_handle = self.zmq_handle.replace(f"-zmq-{job}-", f"-zmq-{run_id()}-")

    module.ServerAdapter.__init__ = __init__
