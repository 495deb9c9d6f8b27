"""The recipe itself on this machine: install from carried wheels, then `tiny`, then `smol`, with 5 RL steps each.

    WHEELS=DIR benchmarks/gpu/run.sh recipe

Without verl and vLLM in PYTHON's environment, the wheels of WHEELS (wheels.sh) are installed into OUT/site-packages,
without a network. Every step is a command that a user may type. A step that fails is a result: its error is kept, the
steps that need it are skipped, and the others run. Logs: OUT/recipe/NAME.log.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import wheels
from cases import ROOT, Case, Options, run_all

STEPS = 5
MICRO_BATCH_TOKENS = 640
"""Of RL: a group of either preset fits (smol: 320 + 4 × 64 tokens and the fast forms), all groups of a step do not."""
PARITY = "rollout_actor_log_prob_diff"
LIMIT_FP32 = {"tiny": 1e-4, "smol": 1e-3}
"""Largest gap between rollout's and actor's log-prob of a token, where both compute in fp32; in bf16 it has no limit.

Seen on a CPU: 2e-6 with tiny's 4 layers, 1.1e-4 (mean 1e-5) with smol's 30. No cause beyond rounding was looked for.
"""
PACKAGES = ("ray", "verl", "vllm", "tensordict", "transformers", "torch")
_PROBE = f"""
import importlib.metadata as m, json, sys
import ray, verl, vllm
import vllm.v1.engine.async_llm
from verl_ext import plugin
plugin.require()
print(json.dumps({{name: m.version(name) for name in {PACKAGES!r}}}))
"""
_FINISH_SITE = """
import sys
from pathlib import Path
from verl_ext import install
install.install_torchvision_fix(Path(sys.argv[1]))
install.install_vllm_alias(Path(sys.argv[1]))
"""
# Folders of PYTHONPATH have no .pth files read; this one has.
_SITECUSTOMIZE = "import os\nimport site\n\nsite.addsitedir(os.path.dirname(__file__))\n"


class Machine:
    """Where things are, and the environment of every command."""

    def __init__(self, options: Options):
        self.options = options
        self.out = (options.out / "recipe").absolute()
        # The name matters: dill, which hashes functions for `datasets`, pickles modules of folders with other names.
        self.site = (options.out / "site-packages").absolute()
        self.out.mkdir(parents=True, exist_ok=True)
        wanted = {"PYTHONPATH": self.python_path(), "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        if options.device == "cpu":
            wanted |= {"VERL_PLATFORM": "cpu", "OMP_NUM_THREADS": "1"}
        os.environ.update(wanted)
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a run starts about ten processes that import these packages
        sys.path[:0] = [str(ROOT), str(self.site)]

    def python_path(self) -> str:
        """The repository, then what was installed, then what was there."""
        old = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
        return os.pathsep.join(dict.fromkeys([str(ROOT), str(self.site), *old]))

    def run(self, name: str, command: Sequence[str], limit: float) -> float:
        """Run a command in the repository, its output in OUT/recipe/NAME.log; returns its seconds.

        Raises:
            RuntimeError: it failed, or did not end within `limit` seconds or the call's time; with the log's end.
        """
        from recipe.mer_r1.pipeline import process
        from recipe.mer_r1.run import logs

        log, begin = self.out / f"{name}.log", time.monotonic()
        log.write_text(f"$ {' '.join(command)}\n")
        limit = min(limit, self.options.clock.left)

        def in_time() -> None:
            if time.monotonic() - begin > limit:
                raise TimeoutError(f"did not end within {limit:.0f} s")

        os.chdir(ROOT)
        process.adopt_orphans()
        problem = None
        try:
            if status := process.Command(command, log).wait(in_time):
                problem = f"exit status {status}"
        except TimeoutError as error:
            problem = str(error)
        if problem:
            raise RuntimeError("\n".join([*logs.relevant(log, 25), f"{problem}: {' '.join(command)}"]))
        return time.monotonic() - begin


def probe() -> dict[str, str]:
    """Versions, if verl, vLLM, Ray and the plugin import in an interpreter of its own.

    Raises:
        RuntimeError: they do not; the message has the error.
    """
    done = subprocess.run([sys.executable, "-c", _PROBE], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError("\n".join((done.stderr or done.stdout).strip().splitlines()[-25:]))
    return json.loads(done.stdout.strip().splitlines()[-1])


def install_case(machine: Machine) -> dict[str, Any]:
    """Nothing where the packages import already; else pip, without index and dependencies, into OUT/site-packages."""
    try:
        return {"installed": "before", "versions": probe()}
    except RuntimeError as error:
        if not (folder := os.environ.get("WHEELS")):
            return {"passed": False, "error": f"{error}\nSet WHEELS to the folder that wheels.sh made."}
    files = wheels.join(Path(folder), machine.out / "wheels")
    begin = time.monotonic()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    pip += ["--disable-pip-version-check", "--no-cache-dir", "--upgrade", "--target", str(machine.site)]
    # The project: its metadata alone, for the entry points of the plugins; its code is the repository's.
    metadata = [sys.executable, "setup.py", "--quiet", "egg_info", "--egg-base", str(machine.site)]
    finish = [sys.executable, "-c", _FINISH_SITE, str(machine.site)]
    for command in ([*pip, *map(str, files)], metadata, finish):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[:8])} …\n" + "\n".join(done.stderr.strip().splitlines()[-20:]))
    (machine.site / "sitecustomize.py").write_text(_SITECUSTOMIZE)
    return {"installed": f"{len(files)} wheels", "install_seconds": time.monotonic() - begin, "versions": probe()}


def command_case(machine: Machine, name: str, limit: float, command: Sequence[str]) -> dict[str, Any]:
    """One command of the recipe."""
    return {"run_seconds": machine.run(name, [sys.executable, *command], limit)}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The data of every training step in metrics.jsonl; the validation before step 1 is none."""
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return [row["data"] for row in rows if row["step"] > 0 and "timing_s/step" in row["data"]]


def parity(steps: Sequence[Mapping[str, Any]], limit: float | None) -> dict[str, Any]:
    """How far rollout and actor are apart over the steps, the times of a step's phases, and the verdict.

    Args:
        steps: data of each training step.
        limit: of the largest gap; None: any gap passes.
    """
    largest = [step.get(f"{PARITY}/max") for step in steps]
    means = [step.get(f"{PARITY}/mean") for step in steps]
    phases = {key.removeprefix("timing_s/") for step in steps for key in step if key.startswith("timing_s/")}
    found: dict[str, Any] = {
        "steps": len(steps),
        "parity_max": largest,
        "parity_mean": means,
        "phase_seconds": {name: [step.get(f"timing_s/{name}") for step in steps] for name in sorted(phases)},
    }
    complete = len(steps) == STEPS and all(isinstance(value, float) for value in largest)
    found["passed"] = complete and (limit is None or max(largest) <= limit)
    if not complete:
        found["error"] = f"{len(steps)} of {STEPS} steps, {PARITY}/max {largest}"
    elif not found["passed"]:
        found["error"] = f"rollout and actor differ by {max(largest):.1e} in fp32, more than {limit:g}"
    return found


def rl_case(
    machine: Machine, name: str, limit: float, command: Sequence[str], run_dir: Path, gap: float | None
) -> dict[str, Any]:
    """main_ppo; prints the parity of every step."""
    metrics = run_dir / "metrics.jsonl"
    metrics.unlink(missing_ok=True)
    problem = None
    try:
        machine.run(name, [sys.executable, *command], limit)
    except RuntimeError as error:
        problem = str(error)
    steps = read_metrics(metrics) if metrics.exists() else []
    found = parity(steps, gap)
    for number, (top, mean) in enumerate(zip(found["parity_max"], found["parity_mean"], strict=True), 1):
        print(f"  {name}: step {number}: rollout against actor: max {top}, mean {mean}", flush=True)
    return {**found, "passed": False, "error": problem} if problem else found


@dataclass(frozen=True)
class Size:
    """How much of a preset is run. Rollouts per RL step: prompts × responses."""

    sft_steps: int
    batch: int
    prompts: int
    responses: int


FULL = {"tiny": Size(60, 16, 8, 4), "smol": Size(40, 16, 8, 4)}
SMALL = {"tiny": Size(4, 16, 8, 4), "smol": Size(2, 2, 2, 2)}


def commands(preset: str, size: Size, out: Path, device: str) -> dict[str, list[str]]:
    """What follows `python` for the model (`init`), SFT (`sft`) and RL (`rl`) of a preset."""
    shards = out / "corpus" / "shards"
    init, sft, rl = out / f"{preset}-init", out / f"{preset}-sft", out / f"{preset}-rl"
    common = [f"preset={preset}", *(["cluster=gpu_1x1"] if device == "cuda" else []), "trainer.resume_mode=disable"]
    make = ["-m", f"verl_ext.models.{preset}", "--out", str(init)]
    make += ["--shards", str(shards / "sft.parquet")] if preset == "tiny" else []
    teach = {
        "model_path": init,
        "train_files": shards / "sft.parquet",
        "steps": size.sft_steps,
        "epochs": "null",
        "batch_size": size.batch,
        "micro_batch_size": min(4, size.batch),
    }
    learn = {
        "model_path": sft / "model",
        "train_files": shards / "rl.parquet",
        "val_files": shards / "test.parquet",
        "steps": STEPS,
        "prompts_per_step": size.prompts,
        "responses_per_prompt": size.responses,
        "micro_batch_tokens": MICRO_BATCH_TOKENS,
        "max_response_length": 64,
        "save_every": STEPS,
        "validate_every": STEPS,
    }
    sft_keys = [f"preset.sft.{key}={value}" for key, value in teach.items()]
    rl_keys = [f"preset.{key}={value}" for key, value in learn.items()]
    return {
        "init": make,
        "sft": ["-m", "recipe.mer_r1.main_sft", *common, *sft_keys, f"run_dir={sft}"],
        "rl": [
            *("-m", "recipe.mer_r1.main_ppo", *common, "experiment=mer_r1", *rl_keys),
            *("trainer.val_before_train=false", f"run_dir={rl}"),
        ],
    }


def all_cases(machine: Machine) -> list[Case]:
    """Installation, corpus, and for each preset: model, SFT, RL. Each needs the one before it."""
    small, device, out = machine.options.small, machine.options.device, machine.out
    base = {"device": device, "small": small}
    slower = 4 if device == "cpu" else 1  # how much longer a command may take

    def case(name: str, after: str, seconds: float, limit: float, command: list[str], *more: Any) -> Case:
        run = partial(rl_case if more else command_case, machine, name, slower * limit, command, *more)
        settings = {**base, "command": command, **({"gap": more[1]} if more else {})}
        return Case(name, settings, run, seconds, (after,))

    clips, test_clips = ("40", "4") if small else ("96", "8")
    corpus = ["-m", "data_prep", "micro", "--out", str(out / "corpus"), "--clips", clips, "--test-clips", test_clips]
    cases = [
        Case("install", {**base, "wheels": os.environ.get("WHEELS")}, partial(install_case, machine), 120),
        case("corpus", "install", 60, 200, corpus),
    ]
    for preset, size in (SMALL if small else FULL).items():
        run = commands(preset, size, out, device)
        gap = LIMIT_FP32[preset] if device == "cpu" else None
        cases += [
            case(f"{preset}-init", "corpus", 30, 120, run["init"]),
            case(f"{preset}-sft", f"{preset}-init", 60, 240, run["sft"]),
            case(f"{preset}-rl", f"{preset}-sft", 150, 460, run["rl"], out / f"{preset}-rl", gap),
        ]
    return cases


def main() -> int:
    options = Options.read()
    return run_all("recipe", all_cases(Machine(options)), options)


if __name__ == "__main__":
    sys.exit(main())
