"""vLLM and transformers agree on a model: the comparison as a check, in a process with a time limit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from recipe.mer_r1.doctor import weights
from recipe.mer_r1.doctor.machine import GIB, memory
from recipe.mer_r1.doctor.outcome import Check, Outcome, Subject, failed, ok, warning

LIMIT = 1e-4
SECONDS = 600
LAST_LINES = 3
LOOK = "do not train with this model: see docs/footguns.md (numbers) and run tests/verl_ext/rollout/test_parity.py"


def check_agreement(subject: Subject, seconds: float = SECONDS) -> Outcome:
    """Placeholders and log-probs of both sides are the same; a warning where that was not tried."""
    reason = _why_not(subject)
    if reason:
        return warning(f"skipped: {reason}", "give a complete model that fits into memory, with --model DIR")
    module = ["-m", "recipe.mer_r1.doctor.compare"]
    command = [sys.executable, *module, "--model", str(subject.model), "--preset", subject.preset_name]
    return judge(*run_limited(command, seconds), seconds)


def _why_not(subject: Subject) -> str | None:
    from recipe.mer_r1.run import preflight

    if subject.model is None:
        return "--model is not given"
    if not Path(subject.model).is_dir():
        return "the model is not a folder"
    try:
        preflight.check_model_folder(subject.model, "--model")
    except preflight.PreflightError:
        return "the model folder is not complete"
    parameters = weights.thinker_parameters(subject.model)
    if not parameters:
        return "the weights cannot be used"
    needed = 2 * 4 * parameters + 3 * GIB  # fp32 on both sides, should the first be slow to let go
    free = _device_memory() if subject.preset.device == "cuda" else memory()[1]
    if free < needed:
        return f"both sides in fp32 need {needed / GIB:.0f} GiB, but {free / GIB:.0f} GiB are free"
    return None


def _device_memory() -> int:
    import torch

    return torch.cuda.mem_get_info()[0]


def run_limited(command: Sequence[str], seconds: float) -> tuple[int | None, list[str], list[str]]:
    """Exit code (None: out of time) and the lines of stdout and stderr. No process of the command's is left behind."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors, start_new_session=True)
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
        texts = []
        for file in (out, errors):
            file.seek(0)
            texts.append(file.read())
    return code, *([line.strip() for line in text.splitlines() if line.strip()] for text in texts)


def _end(process: subprocess.Popen) -> None:
    """Ctrl-C first, by which vLLM clears its shared memory, then kill what is left of the group."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def judge(code: int | None, out: list[str], errors: list[str], seconds: float = SECONDS) -> Outcome:
    """What the comparison's exit code and lines mean."""
    last = " | ".join((errors or out)[-LAST_LINES:]) or "it printed nothing"
    if code is None:
        return failed(
            f"no answer within {seconds:.0f} s; last lines: {last}",
            "run again when the machine is not busy, or fix the problem in the last lines",
        )
    if code != 0:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return failed(f"the comparison ended with {how}; last lines: {last}", "fix the problem in the last lines")
    found = json.loads(out[-1])
    ours, theirs = found["transformers"], found["vllm"]
    counts = f"{ours['video']} video and {ours['audio']} audio placeholders"
    if ours != theirs:
        return failed(f"{counts} in transformers, but {theirs['video']} and {theirs['audio']} in vLLM", LOOK)
    if not found["same_prompt"]:
        return failed(f"{counts} on both sides, but the tokens of the prompts differ", LOOK)
    gap = f"log-probs of {found['tokens']} greedy tokens differ by up to {found['max_gap']:.1e} (fp32)"
    if not found["max_gap"] <= LIMIT:  # also where it is no number
        return failed(f"{gap}, more than {LIMIT:.0e}", LOOK)
    return ok(f"{counts} on both sides, {gap}")


CHECKS = [Check("vLLM and transformers agree", check_agreement, needs_preset=True)]
