"""What a process may use: CPUs by affinity and cgroup, GPUs by variables that agree, an address by interface."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from recipe.mer_r1.doctor import machine as doctor
from recipe.mer_r1.doctor.outcome import Subject
from recipe.mer_r1.run import launch, machine, preflight, ray_cluster, sft_preflight

ROOT = Path(__file__).parents[3]


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """A function that writes the file of a process' own cgroups, and files of limits."""
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))

    def write(own, **limits):
        (tmp_path / "own").write_text(own)
        for name, text in limits.items():
            file = tmp_path / "cgroup" / name.replace("__", "/").replace("_max", ".max").replace("cfs", "cpu.cfs")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    return write


@pytest.mark.parametrize(
    ("own", "limits", "cpus"),
    [
        ("0::/job\n", {"job__cpu_max": "400000 100000\n"}, 4),
        ("0::/job\n", {"job__cpu_max": "max 100000\n"}, 64),
        ("0::/job/step\n", {"job__cpu_max": "200000 100000", "job__step__cpu_max": "max 100000"}, 2),  # of a parent
        ("0::/\n", {"cpu_max": "300000 100000"}, 3),  # a container's own root
        ("0::/docker/abc\n", {"cpu_max": "300000 100000"}, 3),  # … under a path of the host
        ("0::/job\n", {"job__cpu_max": "250000 100000"}, 2),
        ("0::/job\n", {"job__cpu_max": "50000 100000"}, 1),
        ("0::/job\n", {"job__cpu_max": "12800000 100000"}, 64),  # more than the affinity
        (
            "4:cpu,cpuacct:/job\n0::/\n",
            {"cpu,cpuacct__job__cfs_quota_us": "600000", "cpu,cpuacct__job__cfs_period_us": "100000"},
            6,
        ),
        ("4:cpu:/job\n", {"cpu__job__cfs_quota_us": "-1", "cpu__job__cfs_period_us": "100000"}, 64),
        ("", {}, 64),
    ],
)
def test_cpus_are_those_of_the_affinity_and_of_the_cgroup(cgroups, own, limits, cpus):
    cgroups(own, **limits)
    assert machine.usable_cpus() == cpus


def test_an_affinity_is_seen_by_the_command():
    one = min(os.sched_getaffinity(0))
    command = ["taskset", "-c", str(one), sys.executable, "-m", "recipe.mer_r1.run.machine", "cpus"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "1\n"


def test_ray_gets_these_cpus_where_no_number_is_set_and_no_cluster_is_joined(monkeypatch, capsys):
    monkeypatch.setattr(machine, "usable_cpus", lambda: 7)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def cpus(*overrides):
        config = launch.compose("ppo", list(overrides))
        OmegaConf.set_struct(config, True)
        ray_cluster.join_where_named(config)
        return config.ray_kwargs.ray_init.get("num_cpus")

    assert cpus("preset=omni7b") == 7
    assert "Ray: 7 CPUs" in capsys.readouterr().err
    assert cpus("preset=omni7b", "preset.ray.num_cpus=32") == 32
    assert cpus("preset=tiny") == 16
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert cpus("preset=omni7b") is None


@pytest.mark.parametrize(
    ("given", "named", "fix"),
    [
        ({}, None, None),
        ({"CUDA": "0,1"}, None, None),
        ({"HIP": "0", "CUDA": "0"}, None, None),
        ({"HIP": "1", "CUDA": "0"}, "HIP_VISIBLE_DEVICES=1 and CUDA_VISIBLE_DEVICES=0", "unset HIP_VISIBLE_DEVICES"),
        (
            {"ROCR": "0", "CUDA": "0"},
            "ROCR_VISIBLE_DEVICES=0 and CUDA_VISIBLE_DEVICES=0: Ray and verl refuse",
            "unset ROCR_VISIBLE_DEVICES",
        ),
        ({"ROCR": "0", "HIP": "0"}, "ROCR_VISIBLE_DEVICES=0 and HIP_VISIBLE_DEVICES=0", "unset ROCR_VISIBLE_DEVICES"),
        ({"ROCR": "2"}, "ROCR_VISIBLE_DEVICES=2:", "set CUDA_VISIBLE_DEVICES=2 instead"),
        ({"ROCR": ""}, "ROCR_VISIBLE_DEVICES=:", "unset ROCR_VISIBLE_DEVICES"),  # Ray refuses it empty, too
    ],
)
def test_variables_of_gpus_that_contradict_each_other_are_named(monkeypatch, given, named, fix):
    for name in ("CUDA", "HIP", "ROCR"):
        monkeypatch.delenv(f"{name}_VISIBLE_DEVICES", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(f"{name}_VISIBLE_DEVICES", value)
    outcome = doctor.check_gpus(Subject("tiny"))
    if named is None:
        preflight.check_visible_devices()
        assert outcome.status == "ok"
        return
    assert (outcome.status, named in outcome.seen, fix in outcome.fix) == ("failed", True, True)
    for check, config in ((preflight.check_ppo, "ppo"), (sft_preflight.check_cheap, "sft")):
        with pytest.raises(preflight.PreflightError) as caught:
            check(launch.compose(config, ["preset=tiny"]))
        assert named in str(caught.value)
        assert fix in str(caught.value)


def test_the_address_of_an_interface_is_the_heads(monkeypatch, capsys):
    assert machine.address_of("lo") == "127.0.0.1"
    monkeypatch.setenv("INTERFACE", "lo")
    assert ray_cluster.main(["address"]) == 0
    host, port = capsys.readouterr().out.strip().split(":")
    assert host == "127.0.0.1"
    with socket.socket() as server:
        server.bind((host, int(port)))


def test_an_interface_that_is_not_there_is_named_with_those_that_are(monkeypatch, capsys):
    monkeypatch.setenv("INTERFACE", "ib9")
    assert ray_cluster.main(["address"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("network interface 'ib9': ")
    assert "lo (127.0.0.1)" in said
    assert machine.main(["address", "ib9"]) == 2


# --- the scripts for SLURM ---


@pytest.fixture
def node(tmp_path):
    """A function that runs ray_node.sh with a `ray` that prints its options and variables; returns both."""
    (tmp_path / "python").symlink_to(sys.executable)
    (tmp_path / "ray").write_text("""#!/usr/bin/env bash
for word; do echo "$word"; done
env
""")
    (tmp_path / "ray").chmod(0o755)

    def run(*prefix, **variables):
        environment = {k: v for k, v in os.environ.items() if not k.endswith("_VISIBLE_DEVICES")}
        environment |= {"PYTHON": str(tmp_path / "python"), "SLURM_CPUS_ON_NODE": "48"}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *sys.path])
        script = ["bash", "examples/slurm/ray_node.sh", "worker", "10.0.0.1:6379", "n1", tmp_path / "ray-1", tmp_path]
        done = subprocess.run(
            [*prefix, *script], cwd=ROOT, env=environment | variables, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout.splitlines(), done.stderr

    return run


def test_a_node_has_the_cpus_of_its_step_and_no_second_list_of_gpus(node):
    one = str(min(os.sched_getaffinity(0)))
    _, lines, _ = node("taskset", "-c", one, CUDA_VISIBLE_DEVICES="0", ROCR_VISIBLE_DEVICES="0")
    assert "--num-cpus=1" in lines
    assert "CUDA_VISIBLE_DEVICES=0" in lines
    assert not any(line.startswith(("ROCR_VISIBLE_DEVICES", "--node-ip-address", "GLOO_SOCKET")) for line in lines)
    _, lines, _ = node(SLURM_CPUS_ON_NODE="1")
    assert "--num-cpus=1" in lines


def test_a_node_uses_the_interface_that_was_chosen(node):
    status, lines, error = node(INTERFACE="lo")
    assert status == 0, error
    wanted = {"--node-ip-address=127.0.0.1", "NCCL_SOCKET_IFNAME=lo", "GLOO_SOCKET_IFNAME=lo", "VLLM_HOST_IP=127.0.0.1"}
    assert wanted <= set(lines)
    status, lines, error = node(INTERFACE="ib9")
    assert (status, lines) == (2, [])
    assert "network interface 'ib9'" in error


def test_every_srun_of_the_scripts_keeps_the_variables_of_the_job():
    """After SBATCH_EXPORT=NONE, SLURM sets SLURM_EXPORT_ENV=NONE in the job, which only srun's own option overrules."""
    calls = [
        line
        for script in sorted((ROOT / "examples" / "slurm").glob("*.s*"))
        for line in script.read_text().splitlines()
        if line.lstrip().startswith("srun ")
    ]
    assert len(calls) == 2
    assert all("srun --export=ALL " in call for call in calls), calls
