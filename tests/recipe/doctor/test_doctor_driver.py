"""The doctor on the NVIDIA driver: the texts it reads, and the reason it gives where torch sees no GPU."""

import pytest

from recipe.mer_r1.doctor import driver

GCC = "GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)\n"
PROPRIETARY = f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue Jun  6 22:20:39 UTC 2023\n{GCC}"
OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  565.57.01  Release Build  (dvs-builder@U16-A24-9-2)  "
    f"Thu Oct 10 12:15:00 UTC 2024\n{GCC}"
)
NO_PATCH = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  555.58  Release Build  (portage@localhost)\n"
ARM = "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.95.05  Release Build  (dvs-builder@U22-I3)\n"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (PROPRIETARY, "535.54.03"),
        (OPEN, "565.57.01"),
        (NO_PATCH, "555.58"),
        (ARM, "580.95.05"),
        (GCC, None),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module\nGCC version: 570.1.1\n", None),
        ("", None),
    ],
)
def test_the_kernels_file(text, version):
    assert driver.version_in(text) == version


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine without a driver; a test puts the parts there that it is about."""
    monkeypatch.setattr(driver, "PROC", tmp_path / "version")
    monkeypatch.setattr(driver, "DEVICES", tmp_path / "dev")
    monkeypatch.setattr(driver, "_of_nvml", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "dev").mkdir()
    return tmp_path


def program(folder, *lines):
    """A stand-in for nvidia-smi."""
    file = folder / "nvidia-smi"
    file.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    file.chmod(0o755)


def test_without_a_driver(machine, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert driver.look("13.0") == driver.Seen(None, "13.0", None, 0)


def test_device_files_and_the_environment_are_looked_at(machine, monkeypatch):
    for name in ("nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm"):
        (machine / "dev" / name).touch()
    (machine / "version").write_text(OPEN)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert driver.look("13.0") == driver.Seen("565.57.01", "13.0", "", 3)


def test_nvidia_smi_is_asked_where_the_kernels_file_is_hidden(machine):
    program(machine, "echo 570.133.20", "echo 570.133.20")
    assert driver.found() == "570.133.20"


def test_an_nvidia_smi_that_fails_names_no_driver(machine):
    program(
        machine, "echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver 570.1'", "exit 9"
    )
    assert driver.found() is None


def test_nvml_is_asked_without_raising():
    assert driver._of_nvml() is None or driver.version_in(f"NVRM version: {driver._of_nvml()}")


@pytest.mark.parametrize(
    ("cuda", "least"), [("11.8", 450), ("12.0", 525), ("12.9", 525), ("13.0", 580), ("14.0", None)]
)
def test_what_cuda_needs(cuda, least):
    assert driver.least_for(cuda) == least


@pytest.mark.parametrize(
    ("found", "cuda", "visible", "files", "said", "fix"),
    [
        (None, "13.0", None, 0, "no NVIDIA driver was found", "install driver 580 or newer"),
        (None, "13.0", "", 0, "no NVIDIA driver was found", "install driver 580 or newer"),
        ("570.133.20", "13.0", None, 8, "is 570.133.20, but torch's CUDA 13.0 needs 580", "cuda-compat-13-0"),
        ("579.99", "13.0", "", 8, "is 579.99, but torch's CUDA 13.0 needs 580", "install driver 580 or newer"),
        ("570.133.20", "12.8", "-1", 8, "CUDA_VISIBLE_DEVICES='-1' hides every GPU", "unset CUDA_VISIBLE_DEVICES"),
        ("580.65.06", "13.0", "", 0, "CUDA_VISIBLE_DEVICES='' hides every GPU", "unset CUDA_VISIBLE_DEVICES"),
        ("580.65.06", "13.0", "9", 8, "CUDA_VISIBLE_DEVICES='9' hides every GPU", "nvidia-smi -L"),
        ("580.65.06", "13.0", "0", 0, "there is no /dev/nvidia0", "docker run --gpus all"),
        ("580.65.06", "13.0", None, 0, "there is no /dev/nvidia0", "apptainer run --nv"),
        ("580.65.06", "13.0", None, 8, "8 GPU(s) in /dev, but torch cannot use them", "nvidia-fabricmanager"),
        ("400.1", "14.0", None, 8, "torch has CUDA 14.0", "nvidia-smi"),
    ],
)
def test_why_torch_sees_no_gpu(found, cuda, visible, files, said, fix):
    why, way = driver.why_none(driver.Seen(found, cuda, visible, files))
    assert said in why
    assert fix in way


def test_why_there_are_too_few():
    assert driver.why_few(driver.Seen("580.65.06", "13.0", None, 4)) == (
        "NVIDIA driver 580.65.06, and torch's CUDA 13.0 needs 580 or newer",
        "lower preset.ranks_per_node, or use a machine or a job with more GPUs",
    )
    assert "CUDA_VISIBLE_DEVICES='0'" in driver.why_few(driver.Seen("580.65.06", "13.0", "0", 4))[0]
