"""The doctor on the machine."""

import os
import shutil
import socket
from types import SimpleNamespace

import pytest
from doctor_cases import subject

from recipe.mer_r1.doctor import driver, machine, weights


def test_cpu_presets_need_no_gpu():
    outcome = machine.check_gpus(subject())
    assert outcome.status == "ok"
    assert "1 rank(s) on the CPU" in outcome.seen


def test_a_cuda_preset_on_a_machine_told_to_be_a_cpu():
    outcome = machine.check_gpus(subject("preset.device=cuda"))
    assert outcome.status == "failed"
    assert "VERL_PLATFORM" in outcome.fix


def gpus(monkeypatch, count, built_for="13.0", **seen):
    """The check of a preset with 8 ranks, on a machine with GPUs and a driver that are made up."""
    import torch

    monkeypatch.delenv("VERL_PLATFORM")
    monkeypatch.setattr(torch.version, "cuda", built_for)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    card = SimpleNamespace(name="NVIDIA H100 80GB HBM3", total_memory=80 * machine.GIB)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    found = driver.Seen(**{"driver": "580.95.05", "cuda": built_for, "visible": None, "files": count} | seen)
    monkeypatch.setattr(driver, "look", lambda _: found)
    return machine.check_gpus(subject("preset.device=cuda", "preset.ranks_per_node=8"))


def test_a_torch_without_cuda(monkeypatch):
    outcome = gpus(monkeypatch, 0, built_for=None)
    assert (outcome.status, "built without CUDA" in outcome.seen) == ("failed", True)
    assert "requirements/gpu.txt" in outcome.fix


def test_an_old_driver_is_the_reason_for_no_gpu(monkeypatch):
    outcome = gpus(monkeypatch, 0, driver="570.133.20", files=8)
    assert outcome.status == "failed"
    assert outcome.seen == (
        "no CUDA device; preset tiny needs 8 devices; the NVIDIA driver is 570.133.20, but torch's CUDA 13.0 needs 580 "
        "or newer"
    )


def test_too_few_gpus(monkeypatch):
    outcome = gpus(monkeypatch, 4, visible="0,1,2,3", files=8)
    assert (outcome.status, "CUDA_VISIBLE_DEVICES='0,1,2,3'" in outcome.seen) == ("failed", True)
    assert "preset.ranks_per_node" in outcome.fix


def test_enough_gpus_even_where_the_driver_alone_would_be_too_old(monkeypatch):
    # NVIDIA's package cuda-compat brings a newer user part; torch sees the GPUs, and that decides.
    outcome = gpus(monkeypatch, 8, driver="550.90.07")
    assert (outcome.status, outcome.fix) == ("ok", "")
    assert "H100 80GB HBM3 80 GiB" in outcome.seen
    assert "driver 550.90.07" in outcome.seen


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
