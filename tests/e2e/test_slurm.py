"""examples/slurm/ under a real SLURM of two nodes: pre-empted and requeued, a sweep, a node that is gone."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import slurm_cluster

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(slurm_cluster.missing()), reason=slurm_cluster.missing() or "SLURM is here"),
]
ROOT = Path(__file__).parents[2]
SECONDS = 900


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[slurm_cluster.Slurm]:
    cluster = slurm_cluster.Slurm(tmp_path_factory.mktemp("slurm") / "state")
    yield cluster
    cluster.stop()


def submit(slurm: slurm_cluster.Slurm, out: Path, options: list[str], script: str, *overrides: str) -> str:
    """The job's number."""
    command = ("sbatch", "--parsable", *settings(slurm, out), *options, f"examples/slurm/{script}", "preset=tiny")
    return slurm.call(*command, *overrides).strip()


def settings(slurm: slurm_cluster.Slurm, out: Path) -> tuple[str, ...]:
    """Options of sbatch's: jobs print to ``out/*.out``; nodes are CPUs, so the scripts' GPUs are taken back."""
    slurm.environment |= {"PYTHON": sys.executable, "LOGS": str(out / "logs"), "SWEEP_DIR": str(out), "OUT": str(out)}
    return "--gpus-per-node=0", "--cpus-per-task=1", f"--chdir={ROOT}", f"--output={out}/%a.out"


def small_rl(corpus: Path, model: Path, steps: int) -> tuple[str, ...]:
    """Overrides of a short run without validation that saves at its end alone."""
    shards = corpus / "shards"
    return (
        *("preset.prompts_per_step=2", "preset.micro_batch_tokens=512", f"preset.steps={steps}"),
        "preset.save_every=100",
        *(f"preset.train_files={shards}/rl.parquet", f"preset.val_files={shards}/test.parquet"),
        *("trainer.val_before_train=false", "preset.validate_every=-1", f"preset.model_path={model}"),
    )


def nothing_of_ray_stays(job: str) -> None:
    """No process and no folder of the job's Ray, ten seconds after its end."""
    deadline = time.monotonic() + 10
    while True:
        left = [process.pid for process in psutil.process_iter() if is_of(process, f"/tmp/ray-{job}-")]
        if not left:
            break
        assert time.monotonic() < deadline, left
        time.sleep(0.5)
    assert not list(Path("/tmp").glob(f"ray-{job}-*"))


def is_of(process: psutil.Process, folder: str) -> bool:
    try:
        return any(folder in word for word in process.cmdline())
    except psutil.Error:
        return False


def test_a_row_of_a_sweep_on_two_nodes_is_preempted_requeued_and_finishes(
    slurm, micro_corpus, tiny_model, tmp_path
) -> None:
    steps, row = 12, 3
    job = submit(
        slurm, tmp_path, ["--nodes=2", f"--array={row}"], "sweep.sbatch", *small_rl(micro_corpus, tiny_model, steps)
    )
    task, folder = f"{job}_{row}", tmp_path / "mer_r1"
    metrics = folder / "metrics.jsonl"
    text = lambda: (tmp_path / f"{row}.out").read_text(errors="replace")  # noqa: E731
    try:
        slurm.wait_until(lambda: (metrics.exists() and metrics.read_text()) or slurm.ended(task), SECONDS)
        slurm.preempt(task, restarts=1)
        slurm.wait_until(lambda: slurm.ended(task), SECONDS)
    finally:
        print(text()[-8000:])
    assert (slurm.job(task)["JobState"], slurm.job(task)["Restarts"]) == ("COMPLETED", "1")
    taken = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [line["step"] for line in taken] == [*range(1, steps + 1)]
    assert "advantage/calib_pos/mean" in taken[0]["data"]
    assert (folder / "model" / "config.json").exists()
    nothing_of_ray_stays(slurm.job(task)["JobId"])
    assert "pre-empted" not in text()  # it was asked to stop, and did
    assert "stopped on request; requeued, it will continue with the same command" in text()
    assert "; continues after step " in text()
    for node in ("n1", "n2"):
        assert "Ray runtime started" in (tmp_path / "logs" / f"ray-{node}.log").read_text()
        assert (tmp_path / "logs" / f"ray-{node}" / "raylet.out").exists()


def test_sft_on_two_nodes_is_stopped_preempted_and_finishes_and_rl_follows(
    slurm, micro_corpus, tiny_model, tmp_path
) -> None:
    """The paper's two jobs, the second not let run. A save is far off: USR1 alone keeps the steps before it."""
    steps, run_dir = 240, tmp_path / "sft"
    small = ("preset.sft.batch_size=4", "preset.sft.micro_batch_size=2", "preset.sft.save_every=80")
    inputs = (f"preset.sft.model_path={tiny_model}", f"preset.sft.train_files={micro_corpus}/shards/sft.parquet")
    options = settings(slurm, tmp_path)
    said = slurm.call(
        *("bash", "examples/slurm/paper.sh", "preset=tiny", *small, *inputs, f"preset.sft.steps={steps}", *options)
    )
    job, rl = re.findall(r"job (\d+)", said)
    metrics, saved = run_dir / "metrics.jsonl", run_dir / "checkpoints" / "latest_checkpointed_iteration.txt"
    try:
        slurm.wait_until(lambda: (metrics.exists() and metrics.read_text()) or slurm.ended(job), SECONDS)
        slurm.call("scancel", "--signal=USR1", "--batch", job)
        slurm.wait_until(lambda: slurm.job(job)["Restarts"] == "1" or slurm.ended(job), 120)
        stopped = int(saved.read_text())
        assert stopped % 80
        slurm.wait_until(lambda: len(metrics.read_text().splitlines()) > stopped or slurm.ended(job), SECONDS)
        with slurm.preempts_by_term():
            slurm.preempt(job, restarts=2)
        assert f"afterok:{job}" in slurm.job(rl)["Dependency"]
        slurm.wait_until(lambda: slurm.ended(job), SECONDS)
    finally:
        slurm.call("scancel", rl)
        print("".join(file.read_text(errors="replace")[-8000:] for file in tmp_path.glob("*.out")))
    assert (slurm.job(job)["JobState"], slurm.job(job)["Restarts"]) == ("COMPLETED", "2")
    assert [json.loads(line)["step"] for line in metrics.read_text().splitlines()] == [*range(1, steps + 1)]
    assert (run_dir / "model" / "config.json").exists()
    assert [path.name for path in (run_dir / "checkpoints").glob("global_step_*")] == [f"global_step_{steps}"]


def test_a_node_that_does_not_come_is_named_in_time(slurm, tmp_path) -> None:
    os.kill(int((slurm.folder / "slurmd-n2.pid").read_text()), signal.SIGKILL)
    start = time.monotonic()
    job = submit(slurm, tmp_path, ["--nodes=2", "--export=ALL,RAY_NODES_TIMEOUT=30"], "train.sbatch")
    slurm.wait_until(lambda: slurm.job(job)["JobState"] not in ("PENDING", "RUNNING"), 120)
    assert time.monotonic() - start < 120
    text = next(tmp_path.glob("*.out")).read_text()
    assert "not all of n1 n2 joined. The step on n2 ended early" in text, text
    slurm.start_node("n2")  # SLURM calls a job completing until its last node has answered
    slurm.wait_until(lambda: slurm.ended(job), 120)
    assert slurm.job(job)["JobState"] == "FAILED"
    assert slurm.job(job)["Restarts"] == "0"
    nothing_of_ray_stays(job)


def test_steps_get_the_jobs_variables_where_sbatch_exports_none(slurm, tmp_path):
    """As with SBATCH_EXPORT=NONE; srun alone would not even find bash. `ray` is a script that writes what it gets."""
    (tmp_path / "python").symlink_to(sys.executable)
    (tmp_path / "ray").write_text(f'#!/usr/bin/env bash\nenv >{tmp_path}/variables\necho "$@" >{tmp_path}/options\n')
    (tmp_path / "ray").chmod(0o755)
    (tmp_path / "job.sh").write_text(
        f"""#!/usr/bin/env bash
        export PYTHON={tmp_path}/python PYTHONPATH={os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
        export RAY_ADDRESS=127.0.0.1:1 RAY_AUTH_TOKEN=secret LOGS={tmp_path} INTERFACE=lo
        export CUDA_VISIBLE_DEVICES=0 ROCR_VISIBLE_DEVICES=0
        source examples/slurm/ray_cluster.sh
        _ray_step worker n1
        wait
        """
    )
    options = ("--export=NONE", "--nodes=1", "--nodelist=n1", f"--chdir={ROOT}", f"--output={tmp_path}/out")
    job = slurm.call("sbatch", "--parsable", *options, str(tmp_path / "job.sh")).strip()
    slurm.wait_until(lambda: slurm.ended(job), 120)
    said = (tmp_path / "out").read_text()
    assert (tmp_path / "variables").exists(), said
    variables = (tmp_path / "variables").read_text().splitlines()
    wanted = {"RAY_AUTH_TOKEN=secret", "SLURM_EXPORT_ENV=NONE", "GLOO_SOCKET_IFNAME=lo", "CUDA_VISIBLE_DEVICES=0"}
    assert wanted <= set(variables)
    assert not any(line.startswith("ROCR_VISIBLE_DEVICES") for line in variables)
    assert "--node-ip-address=127.0.0.1" in (tmp_path / "options").read_text()
