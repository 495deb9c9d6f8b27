"""The doctor on the machine."""

import os
import shutil
import socket

import pytest
from doctor_cases import subject

from recipe.mer_r1.doctor import machine, weights


def test_cpu_presets_need_no_gpu():
    outcome = machine.check_gpus(subject())
    assert outcome.status == "ok"
    assert "1 rank(s) on the CPU" in outcome.seen


def test_a_cuda_preset_on_a_machine_told_to_be_a_cpu():
    outcome = machine.check_gpus(subject("preset.device=cuda"))
    assert outcome.status == "failed"
    assert "VERL_PLATFORM" in outcome.fix


@pytest.mark.parametrize(("built_for", "said"), [(None, "built without CUDA"), ("13.0", "needs 4096 devices")])
def test_a_cuda_preset_with_too_few_gpus(monkeypatch, built_for, said):
    import torch

    monkeypatch.delenv("VERL_PLATFORM")
    monkeypatch.setattr(torch.version, "cuda", built_for)
    outcome = machine.check_gpus(subject("preset.device=cuda", "preset.ranks_per_node=4096"))
    assert outcome.status == "failed"
    assert said in outcome.seen


@pytest.mark.parametrize(("gib", "status"), [(2, "failed"), (6, "warning")])
def test_a_containers_limit_counts(tmp_path, monkeypatch, gib, status):
    limit = tmp_path / "memory.max"
    limit.write_text(f"{gib * machine.GIB}\n")
    monkeypatch.setattr(machine, "CGROUP_LIMIT", limit)
    outcome = machine.check_memory(subject())
    assert outcome.status == status
    assert f"of {gib}.0" in outcome.seen


def test_one_core_is_a_warning(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert machine.check_cores(subject()).status == "warning"


def test_shared_memory_that_does_not_hold_the_buckets():
    outcome = machine.check_shared_memory(subject("preset.rollout.weight_bucket_mb=1000000000"))
    assert outcome.status == "failed"
    assert "the run needs 2000000512 MiB" in outcome.seen
    assert "weight_bucket_mb" in outcome.fix
    assert machine.check_shared_memory(subject()).status == "ok"


def test_a_disk_that_does_not_hold_the_checkpoints(monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "thinker_parameters", lambda _: 10**13)
    outcome = machine.check_disk(subject(f"run_dir={tmp_path}/new/run"))
    assert outcome.status == "failed"
    assert "3 checkpoints" in outcome.seen
    assert str(tmp_path) in outcome.seen


def test_a_disk_that_is_full(monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert machine.check_disk(subject(f"run_dir={tmp_path}")).status == "failed"


def test_a_disk_with_room(tmp_path):
    outcome = machine.check_disk(subject(f"run_dir={tmp_path}", "preset.model_path=no/model"))
    assert (outcome.status, "not known without a model" in outcome.seen) == ("ok", True)


def test_no_loopback(monkeypatch):
    class Refused(socket.socket):
        def bind(self, address):
            raise OSError(99, "Cannot assign requested address")

    assert machine.check_loopback(subject()).status == "ok"
    monkeypatch.setattr(socket, "socket", Refused)
    outcome = machine.check_loopback(subject())
    assert (outcome.status, "127.0.0.1" in outcome.seen) == ("failed", True)
