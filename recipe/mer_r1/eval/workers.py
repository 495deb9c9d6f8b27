"""Workers: processes that answer the clips of an evaluation together, each with a vLLM and GPUs of its own.

This process deals the clips out, watches the workers and joins their answers. Each worker runs :mod:`.worker`. It
writes into a folder inside the folder of the answers, so that every file has one writer, and answers are joined
(`records.join`) after a kill too, whatever number of workers goes on.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, groupby
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from recipe.mer_r1.eval import devices, records
from recipe.mer_r1.eval.generate import Asked, Generation
from recipe.mer_r1.files.whole import write_whole
from recipe.mer_r1.pipeline.process import Command
from recipe.mer_r1.run import leftovers, logs, output

MODULE = "recipe.mer_r1.eval.worker"
LOOK_SECONDS = 0.5
_READ = ("device", "media", "rollout", "max_prompt_length", "seed")
"""What a worker reads of the preset (`rollout.Rollout`)."""


class WorkerError(RuntimeError):
    """A worker has ended before it had answered its clips; the answers of all workers are kept."""


@dataclass(frozen=True)
class Plan:
    """What all workers have in common.

    Attributes:
        model: its folder.
        preset: the `preset` node of a configuration.
        max_tokens: of a response.
        form: of a response.
        wheels: a folder or file of official wheels; None: the built-in table.
        media_root: folder that the shards' relative paths start from; None: their own.
        logs: folder for each worker's log, worker-K.log.
    """

    model: str
    preset: DictConfig
    max_tokens: int
    form: str
    wheels: str | None
    media_root: Path | None
    logs: Path

    def job(self, share: Sequence[tuple[Generation, Path, Sequence[Asked]]]) -> dict[str, Any]:
        """Of one worker, for JSON.

        Args:
            share: for each shard its answers so far, the worker's folder, and what the worker is to answer.
        """
        return {
            "model": self.model,
            "preset": {key: _plain(self.preset[key]) for key in _READ},
            "max_tokens": self.max_tokens,
            "form": self.form,
            "wheels": self.wheels and str(self.wheels),
            "media_root": self.media_root and str(self.media_root.resolve()),
            "shards": [
                {
                    "shard": str(made.clips.shard),
                    "folder": str(folder),
                    "modes": list(made.modes),
                    "temperature": made.temperature,
                    "seed": made.seed,
                    "samples": max(made.samples.values()),
                    "asked": list(asked),
                }
                for made, folder, asked in share
            ],
        }


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def deal(missing: Sequence[Sequence[Asked]], workers: int) -> list[list[list[Asked]]]:
    """What is missing of each shard, dealt out clip by clip: for each worker, its part of each shard.

    All answers to a clip go to one worker, which decodes the clip once. The numbers of clips differ by one at most.

    Args:
        missing: of each shard; all answers to a clip together.
        workers: their number; those that would get no clip are left out.
    """
    dealt: list[list[list[Asked]]] = [[[] for _ in missing] for _ in range(workers)]
    turn = count()
    for number, asked in enumerate(missing):
        for _, of_clip in groupby(asked, key=lambda one: one[1]):
            dealt[next(turn) % workers][number] += of_clip
    return [share for share in dealt if any(share)]


def answer(
    todo: Sequence[Generation], plan: Plan, environments: Sequence[Mapping[str, str]], tell: Callable[[int], None]
) -> None:
    """Let workers make what is missing, and join their answers. No worker is left on return, however it ends.

    A worker that dies is told at once, and the others continue.

    Args:
        environments: of each worker, where it differs from ours (:func:`.devices.environments`).
        tell: called about twice a second with the number of answers that the workers have made.

    Raises:
        WorkerError: some workers died: which, and the end of the first one's log.
    """
    missing = [made.missing() for made in todo]
    shares = deal(missing, len(environments))
    workers: list[_Worker] = []
    try:
        for number, share in enumerate(shares, start=1):
            mine = [(made, asked) for made, asked in zip(todo, share, strict=True) if asked]
            workers.append(_Worker(f"worker-{number}", mine, plan, environments[number - 1]))
        _watch(workers, tell)
    except BaseException:
        leftovers.end(worker.command.pid for worker in workers)
        raise
    finally:
        for made, before in zip(todo, missing, strict=True):
            records.join(made.folder)
            made.made += len(before) - len(made.missing())
    if dead := [worker for worker in workers if worker.fault]:
        lines = "\n".join(f"  {line}" for line in logs.relevant(dead[0].log, output.SHOWN_LINES))
        faults = "; ".join(f"{worker.name} {worker.fault}" for worker in dead)
        left = sum(len(made.missing()) for made in todo)
        raise WorkerError(
            f"{faults}. {left} answers are missing, all others are kept: run the same command again to continue.\n"
            f"The end of {dead[0].log}:\n{lines}"
        )


def _watch(workers: Sequence[_Worker], tell: Callable[[int], None]) -> None:
    """Until all have ended."""
    running = [*workers]
    while running:
        time.sleep(LOOK_SECONDS)
        ended = [worker for worker in running if worker.has_ended()]
        running = [worker for worker in running if worker not in ended]
        tell(sum(worker.answers() for worker in workers))
        for worker in ended:
            if worker.fault:
                others = "; the other workers continue" if running else ""
                output.say(f"{worker.name} {worker.fault}{others}. Its output: {worker.log}")


class _Worker:
    """A worker that runs.

    Args:
        name: worker-K.
        share: what it is to answer of each shard.
        environment: where it differs from ours.

    Attributes:
        command: its processes.
        fault: why it ended before its end; "" while it runs, and after a good end.
    """

    def __init__(
        self,
        name: str,
        share: Sequence[tuple[Generation, Sequence[Asked]]],
        plan: Plan,
        environment: Mapping[str, str],
    ):
        self.name, self.log, self.fault = name + devices.told(environment), plan.logs / f"{name}.log", ""
        self._asked = sum(len(asked) for _, asked in share)
        # A new name at each start: a worker of a start that was killed may still write for a moment.
        folders = [Path(tempfile.mkdtemp(prefix=f"{name}-", dir=made.folder)) for made, _ in share]
        self._files = [
            _Lines(folder / f"{mode}.jsonl")
            for (made, _), folder in zip(share, folders, strict=True)
            for mode in made.samples  # of a response with two answers, one of the two files
        ]
        job = folders[0] / "job.json"
        given = [(made, folder, asked) for (made, asked), folder in zip(share, folders, strict=True)]
        write_whole(job, json.dumps(plan.job(given)).encode())
        command = ["-m", MODULE, str(job)]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"{logs.START}{' '.join(command)}  # {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        self.command = Command([sys.executable, *command], self.log, environment)

    def answers(self) -> int:
        """That it has written."""
        return sum(file.count() for file in self._files)

    def has_ended(self) -> bool:
        status = self.command.poll()
        if status is None:
            return False
        made = self.answers()
        if status < 0:
            self.fault = f"was killed by signal {-status}{' (out of memory?)' if status == -9 else ''}"
        elif status or made < self._asked:
            self.fault = f"ended with exit status {status}"
        self.fault += f" after {made} of {self._asked} answers" if self.fault else ""
        return True


class _Lines:
    """Counts the lines of a file that grows, reading what is new."""

    def __init__(self, path: Path):
        self._path, self._read, self._lines = path, 0, 0

    def count(self) -> int:
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
            self._read += len(new)
            self._lines += new.count(b"\n")
        return self._lines
