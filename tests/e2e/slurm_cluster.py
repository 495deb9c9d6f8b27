"""A real SLURM of two nodes on this machine: munged, slurmctld and two slurmd with ports and folders of their own."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel", "sinfo")
FIRST_JOB = random.SystemRandom().randrange(1_000_000, 9_000_000)
"""Of a long-lived cluster's length, and not that of an earlier one, whose folders may still be there."""
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
# Partition `urgent` pre-empts `main`: a job there gets the signal that it asked for, and the grace time to save.
# cred_expire is what a requeued job waits for; linuxproc ends a step's processes whatever group they are in.
CONF = """
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmctldTimeout=300
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
SlurmUser=root
FirstJobId={first_job}
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=5,bf_interval=5
ReturnToService=2
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
KillWait=20
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports[1]}-{ports[2]}] CPUs=8 State=UNKNOWN
PartitionName=main Nodes=n[1-2] Default=YES PriorityTier=1 GraceTime=300 State=UP
PartitionName=urgent Nodes=n[1-2] PriorityTier=2 PreemptMode=OFF State=UP
"""


def missing() -> str:
    """Why SLURM cannot be started here; empty where it can."""
    if os.geteuid() != 0:
        return "slurmd starts jobs as their user, which only root can"
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"no {', '.join(absent)} here: run `make test-packages`" if absent else ""


class Slurm:
    """Nodes n1 and n2 on this host, up until `stop`.

    Args:
        folder: state, logs and pid files.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        folder.mkdir(parents=True)
        for name in ("state", "spool-n1", "spool-n2"):
            (folder / name).mkdir()
        conf = CONF.format(host=socket.gethostname(), folder=folder, ports=_free_ports(3), first_job=FIRST_JOB)
        (folder / "slurm.conf").write_text(conf)
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        # --force: munged wants folders that everyone can enter; here root alone talks to it.
        self.call("munged", "--force", f"--key-file={key}", *(f"--{n}={folder}/munge.{e}" for n, e in MUNGE_FILES))
        self.call("slurmctld")
        for node in ("n1", "n2"):
            self.start_node(node)
        self.wait_until(lambda: self.call("sinfo", "-hN", "-p", "main", "-o", "%T").split() == ["idle"] * 2, 60)

    def call(self, *command: str) -> str:
        """Standard output of a command of SLURM's."""
        return subprocess.run(command, env=self.environment, check=True, stdout=subprocess.PIPE, text=True).stdout

    def start_node(self, node: str) -> None:
        self.call("slurmd", "-N", node)

    @contextmanager
    def preempts_by_term(self) -> Iterator[None]:
        """While inside, a pre-empted job's steps get TERM, and its script nothing, whatever signal it asked for."""
        conf = self.folder / "slurm.conf"
        before = conf.read_text()
        conf.write_text(before.replace("SlurmctldParameters=preempt_send_user_signal\n", ""))
        self.call("scontrol", "reconfigure")
        try:
            yield
        finally:
            conf.write_text(before)
            self.call("scontrol", "reconfigure")

    def preempt(self, job: str, restarts: int) -> None:
        """A job of the higher partition takes both nodes; returns when it is over and `job` was requeued."""
        options = ("--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null")
        urgent = self.call("sbatch", "--parsable", *options, "--wrap=true").strip()
        self.wait_until(lambda: self.job(job)["Restarts"] == str(restarts) or self.ended(job), 300)
        self.wait_until(lambda: self.job(urgent)["JobState"] == "COMPLETED", 120)

    def ended(self, job: str) -> bool:
        return self.job(job)["JobState"] in ENDED

    def wait_until(self, condition, seconds: float) -> None:
        """Raises TimeoutError when the condition does not hold in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds} s; {self.call('squeue')}{self.call('sinfo', '-R')}")
            time.sleep(0.5)

    def job(self, number: str) -> dict[str, str]:
        """What SLURM says of a job: JobState, RestartCnt, ExitCode, …"""
        words = self.call("scontrol", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def stop(self) -> None:
        """Cancel all jobs, end the daemons, wait for them."""
        with suppress(subprocess.CalledProcessError):
            self.call("scancel", "--user=root")
            self.wait_until(lambda: not self.call("squeue", "-h"), 60)
        for name in ("slurmd-n1", "slurmd-n2", "slurmctld", "munge"):
            file = self.folder / f"{name}.pid"
            if file.exists():
                _end(int(file.read_text()))


MUNGE_FILES = (("socket", "socket"), ("pid-file", "pid"), ("log-file", "log"), ("seed-file", "seed"))


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 20
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)  # a daemon that the test process has adopted
            time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    """Neighbouring ports, because slurm.conf wants a range."""
    for first in range(17001, 19000, count):
        sockets = [socket.socket() for _ in range(count)]
        try:
            for offset, server in enumerate(sockets):
                server.bind(("", first + offset))
            return [first + offset for offset in range(count)]
        except OSError:
            continue
        finally:
            for server in sockets:
                server.close()
    raise OSError("no three free ports in 17001–19000")
