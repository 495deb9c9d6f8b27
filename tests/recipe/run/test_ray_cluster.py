"""A cluster that is started from outside: its nodes' options, joining it, waiting for it; the scripts around it."""

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from recipe.mer_r1.ablation.table import load_table
from recipe.mer_r1.run import launch, ray_cluster
from recipe.mer_r1.run.split import split

ROOT = Path(__file__).parents[3]
SCRIPTS = sorted((ROOT / "examples" / "slurm").glob("*.s*"))


def test_a_nodes_resources_are_said_where_it_is_started_and_not_where_it_is_joined(monkeypatch):
    config = launch.compose("ppo", ["preset=tiny", "preset.ranks_per_node=2"])
    OmegaConf.set_struct(config, True)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray_cluster.join_where_named(config)
    assert ray_cluster.options(config) == ["--num-cpus=16", "--num-gpus=2"]
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    ray_cluster.join_where_named(config)
    assert ray_cluster.options(config) == []
    assert config.ray_kwargs.ray_init.include_dashboard is False  # the rest stays


def test_an_address_in_the_configuration_joins_too(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config = launch.compose("ppo", ["preset=tiny", "+ray_kwargs.ray_init.address=10.0.0.1:6379"])
    ray_cluster.join_where_named(config)
    assert "num_gpus" not in config.ray_kwargs.ray_init


def test_a_wrong_override_ends_the_job_before_ray_starts(capsys):
    with pytest.raises(SystemExit, match="2"):
        ray_cluster.main(["options", "1", "preset.step=3", "--cfg=job"])
    assert "did you mean" in capsys.readouterr().err


ASYNC = ("mode=separate_async", "preset.nnodes=1")


@pytest.mark.parametrize(
    ("nodes", "overrides", "message"),
    [
        ("2", ["preset.nnodes=2"], None),
        ("2", ["preset.nnodes=3"], "preset.nnodes=3: the run needs more nodes than the job has (2)."),
        ("2", ["preset.nnodes=1"], "preset.nnodes=1: some of the job's 2 nodes would be idle."),
        ("2", ASYNC, None),  # a node a pool
        ("1", ASYNC, None),  # both on one
        ("3", ASYNC, "preset.nnodes=1 and mode.rollout_nodes=1: some of the job's 3 nodes would be idle."),
        (
            "1",
            [*ASYNC, "mode.rollout_nodes=2"],
            "preset.nnodes=1 and mode.rollout_nodes=2: the run needs more nodes than the job has (1)",
        ),
    ],
)
def test_a_run_that_does_not_fit_the_jobs_nodes_ends_before_ray_starts(nodes, overrides, message, capsys):
    status = ray_cluster.main(["options", nodes, "preset=tiny", *overrides])
    said = capsys.readouterr()
    assert (status, said.err.startswith(message or "\0")) == ((0, False) if message is None else (2, True)), said.err
    assert ("--num-cpus=16" in said.out) == (message is None)


def test_nodes_that_do_not_come_are_named_when_the_time_is_over(capsys):
    with socket.socket() as server:  # bound, but nobody listens
        server.bind(("127.0.0.1", 0))
        start = time.monotonic()
        assert ray_cluster.main(["wait", f"127.0.0.1:{server.getsockname()[1]}", "0.3", "n1", "n2"]) == 1
    assert time.monotonic() - start < 5
    assert "0 of 2 Ray nodes are up after 0.3 s; missing: n1, n2" in capsys.readouterr().err


def bash(script, *arguments, **environment):
    """(exit status, stdout, stderr) of a line of bash in the repository's root, strict as the scripts are."""
    process = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script, "bash", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return process.returncode, process.stdout, process.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_script_is_bash(script):
    assert bash('bash -n "$1"', str(script)) == (0, "", "")


def test_node_names_become_an_array():
    script = """
        scontrol() { [[ $* == "show hostnames gpu[07-09]" ]] && printf 'gpu%s\\n' 07 08 09; }
        source examples/slurm/ray_cluster.sh
        cluster_nodes
        printf '%s|' "${#NODES[@]}" "${NODES[0]}" "${NODES[@]:1}"
    """
    assert bash(script, SLURM_JOB_NODELIST="gpu[07-09]") == (0, "3|gpu07|gpu08|gpu09|", "")


@pytest.mark.parametrize(
    ("status", "driver", "goes_on"),
    [
        ("75", "123", True),  # saved as asked
        ("138", "123", True),  # USR1 while it was importing
        ("0", "", True),  # not yet begun
        ("0", "123", False),  # the last step came first
        ("1", "123", False),
        ("130", "123", False),
    ],
)
def test_only_a_run_that_was_stopped_is_requeued(status, driver, goes_on):
    script = 'source examples/slurm/training.sh; DRIVER=$2; if _goes_on "$1"; then echo yes; else echo no; fi'
    assert bash(script, status, driver) == (0, "yes\n" if goes_on else "no\n", "")


@pytest.mark.parametrize(("said", "status"), [("PreemptTime=None", 1), ("PreemptTime=2026-01-01T10:00:00", 0)])
def test_a_job_knows_that_it_was_preempted(said, status):
    script = """
        scontrol() { echo "JobState=RUNNING PreemptEligibleTime=2026-01-01T09:00:00 $said"; }
        source examples/slurm/requeue.sh
        preempted && exit 0 || exit 1
    """
    assert bash(script, said=said, SLURM_JOB_ID="1")[0] == status


def test_the_papers_run_is_two_jobs_of_which_one_waits():
    script = """
        sbatch() { printf '%s ' "$@" >&2; echo >&2; echo "7;cluster"; }
        python() { printf 'sft preset=omni7b\nppo %s\nppo preset=omni7b\nppo mer_r1.live=false\n' "$3"; }
        PYTHON=python
        source examples/slurm/paper.sh preset=omni7b --partition=gpu mer_r1.live=false
    """
    status, said, jobs = bash(script, OUT="/out", NODES="4")
    assert (status, said) == (
        0,
        "SFT: job 7. RL: job 7, which waits for SFT. The model will be in /out/mer_r1/model.\n",
    )
    both = "--parsable --nodes=4 --partition=gpu"
    assert jobs.splitlines() == [
        f"{both} examples/slurm/sft.sbatch run_dir=/out/sft preset=omni7b ",
        f"{both} --dependency=afterok:7 --kill-on-invalid-dep=yes examples/slurm/train.sbatch experiment=mer_r1 "
        "run_dir=/out/mer_r1 preset.model_path=/out/sft/model preset=omni7b mer_r1.live=false ",
    ]


def test_the_papers_run_has_the_folders_of_the_preset():
    script = "sbatch() { echo 7; }; python() { :; }; PYTHON=python; source examples/slurm/paper.sh preset=omni7b"
    preset = OmegaConf.load(ROOT / "conf" / "preset" / "omni7b.yaml")
    assert preset.model_path == "outputs/omni7b/sft/model"
    assert "The model will be in outputs/omni7b/mer_r1/model." in bash(script)[1]


@pytest.mark.slow
def test_each_override_goes_to_the_programs_that_know_it(capsys):
    both = ["preset=omni7b", "cluster=h100_2x8", "preset.lr=1e-6", "trainer.save_freq=9"]
    sft, ppo = ["optim.weight_decay=0"], ["experiment=mer_r1", "experiment.lambda_cali=0.2", "mode=separate_async"]
    ppo += ["mode.rollout_nodes=1", "+profile=deterministic"]
    found = split([*both, *sft, *ppo])
    assert found == {"sft": [*both, *sft], "ppo": [*both, *ppo]}
    with pytest.raises(SystemExit) as stopped:
        split(["preset.stpes=3"])
    assert stopped.value.code == 2
    assert "did you mean preset.steps" in capsys.readouterr().err


def test_the_papers_run_chooses_its_folders():
    status, _, err = bash('bash examples/slurm/paper.sh "$@"', "run_dir=outputs/mine")
    assert status == 2
    assert "run_dir=outputs/mine: paper.sh sets this key (use EXPERIMENT or OUT)" in err


@pytest.mark.slow
def test_a_sweep_knows_its_rows_and_chooses_what_is_theirs():
    job = {"SLURM_SUBMIT_DIR": str(ROOT), "SLURM_ARRAY_JOB_ID": "1"}
    status, _, err = bash('bash examples/slurm/sweep.sbatch "$@"', "preset=tiny", SLURM_ARRAY_TASK_ID="99", **job)
    assert status == 2
    last = len(load_table().everything) - 1
    assert f"no row 99: use --array with rows 0 to {last} (baseline rd rd_ad mer_r1" in err
    status, _, err = bash('bash examples/slurm/sweep.sbatch "$@"', "experiment=a1", SLURM_ARRAY_TASK_ID="0", **job)
    assert status == 2
    assert "experiment=a1: the sweep sets this key" in err


def test_the_sweeps_array_is_the_rows_of_the_paper():
    """`sbatch --array=0-7` without more: the first rows of conf/ablation.yaml are those of Tables 4 and 5."""
    array = next(line for line in lines_of("sweep.sbatch") if line.startswith("#SBATCH --array="))
    first, last = map(int, array.removeprefix("#SBATCH --array=").split("-"))
    rows = list(load_table().everything)[first : last + 1]
    assert rows == ["baseline", "rd", "rd_ad", "mer_r1", "a1", "a2", "b1", "b2"]


def lines_of(name):
    return (ROOT / "examples" / "slurm" / name).read_text().splitlines()
