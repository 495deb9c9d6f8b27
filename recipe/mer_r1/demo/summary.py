"""What came out of a demo, as data (summary.json) and as a page (results.md). Numbers are read, never adjusted."""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from recipe.mer_r1.demo.findings import findings
from recipe.mer_r1.demo.stages import MODELS, ROWS
from recipe.mer_r1.eval.answer_modes import MODES
from recipe.mer_r1.eval.compare.differences import compare
from recipe.mer_r1.eval.compare.sides import pairs, read_side
from recipe.mer_r1.eval.well_formed import difference
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.files.provenance import git_state, versions
from recipe.mer_r1.method.wheel import load_wheels
from recipe.mer_r1.pages.tables import markdown_table, percent
from recipe.mer_r1.pipeline import progress
from recipe.mer_r1.pipeline.stamps import Stamp
from recipe.mer_r1.run import steps

SCORES = ("f1", "recall", "precision", "format")
NAMES = {"sft": "SFT", "baseline": "baseline", "mer_r1": "MER-R1"}
_PAIRS = (*((row, "sft") for row in ROWS), ("mer_r1", "baseline"))
_LIBRARIES = ("mer-r1", "verl", "vllm", "torch", "transformers", "ray", "TransferQueue", "numpy")
_VALIDATION = "val-aux/mer_micro/{mode}/{score}/mean@1"


def build(out: Path, stamps: Mapping[str, Stamp]) -> dict[str, Any]:
    """The summary of a finished demo in `out`.

    `models` has the means of the answers by model and mode, `differences` the paired differences (`mer_r1 - baseline`
    and so on) by mode and score, `well_formed` those of the clip F1 of well-formed sampled slow answers alone, `runs`
    the steps of each RL run. `seconds.setup` is what `make setup` took, null where it has left no note;
    `seconds.rl_startup` runs from the start of the baseline's command to its first training step; `seconds.total` is
    the sum of all stages, of which two may have run at the same time.

    Raises:
        InputError: an evaluation is of an earlier version, or two are not of the same clips.
    """
    scores = {model: json.loads((_answers(out, model) / "scores.json").read_text()) for model in MODELS}
    if old := [
        model for model, found in scores.items() if any("ew_f" not in found["modes"].get(mode, {}) for mode in MODES)
    ]:
        raise InputError(
            f"{_answers(out, old[0])}/scores.json: an earlier version wrote it, without EW F. Remove "
            f"{', '.join(f'{out}/eval_{model}' for model in old)}, then repeat the command: it answers the clips again"
        )
    corpus = json.loads((out / "corpus" / "manifest.json").read_text())
    summary = {
        "models": {model: {mode: found["modes"][mode] for mode in MODES} for model, found in scores.items()},
        "differences": _differences(out),
        "well_formed": {f"{first} - {second}": _well_formed(out, first, second) for first, second in _PAIRS},
        "runs": {row: _run(out / row) for row in ROWS},
        "seconds": _seconds(stamps),
        "peak_rss_gb": max(stamp.peak_rss_gb for stamp in stamps.values()),
        "stage_seconds": {name: stamp.seconds for name, stamp in stamps.items()},
        "corpus": {key: corpus[key] for key in ("generator", "voice", "rows")},
        "wheels": scores["sft"]["settings"]["wheels"],
        "machine": {"cores": os.cpu_count(), "memory_gb": psutil.virtual_memory().total / 1e9},
        "versions": versions(*_LIBRARIES),
        "git": git_state(),
    }
    return {**summary, "findings": findings(summary)}


def _answers(out: Path, model: str) -> Path:
    return out / f"eval_{model}" / "mer_micro"


def _differences(out: Path) -> dict[str, dict[str, Any]]:
    """Between models, by mode; and fast − slow of each model, greedy and sampled; F, P and R as `main_eval compare`."""
    wheels = load_wheels(None)
    sides = {model: read_side(f"{model}={_answers(out, model)}", wheels, wheels_named=False) for model in MODELS}

    def found(first: str, second: str, modes: tuple[str, str]) -> dict[str, Any]:
        here, there = (replace(sides[model], mode=mode) for model, mode in zip((first, second), modes, strict=True))
        return compare(pairs(here, there)[modes], wheels).whole.model_dump()["scores"]

    result = {
        f"{first} - {second}": {mode: found(first, second, (mode, mode)) for mode in MODES} for first, second in _PAIRS
    }
    for model in MODELS:
        result[f"{model}: fast - slow"] = {
            kind: found(model, model, (f"fast{ending}", f"slow{ending}"))
            for kind, ending in (("greedy", ""), ("sampled", "_sampled"))
        }
    return result


def _well_formed(out: Path, first: str, second: str) -> dict[str, Any]:
    """Clip F1 of well-formed sampled slow answers, first − second."""
    texts = ((_answers(out, model) / "slow_sampled.jsonl").read_text() for model in (first, second))
    return difference(*([json.loads(line) for line in text.splitlines()] for text in texts)).model_dump()


def _run(folder: Path) -> dict[str, Any]:
    """Curves of an RL run, its validations, its speed, and the largest gap between vLLM's log-probs and the actor's."""
    taken = progress.read_steps(folder / "metrics.jsonl")
    return {
        **{score: [data[f"reward/{score}"] for data in taken.values()] for score in SCORES},
        "step_seconds": statistics.median(data["timing_s/step"] for data in taken.values()),
        "vllm_actor_logprob_max_abs_diff": max(data["rollout_actor_log_prob_diff/max"] for data in taken.values()),
        "validation": validation(steps.read(folder / "metrics.jsonl")),
    }


def _seconds(stamps: Mapping[str, Stamp]) -> dict[str, float | None]:
    return {
        "setup": setup_seconds(),
        "data": stamps["data"].seconds,
        "sft": sum(stamps[name].seconds for name in ("init", "base", "sft")),
        "rl": sum(stamps[row].seconds for row in ROWS),
        "rl_startup": stamps[ROWS[0]].first_step_seconds,
        "eval": sum(stamps[f"eval_{model}"].seconds for model in MODELS),
        "total": sum(stamp.seconds for stamp in stamps.values()),
    }


def setup_seconds() -> float | None:
    """Seconds that `make setup` took: it writes them to `.setup_seconds` in the virtual environment."""
    try:
        return float((Path(sys.prefix) / ".setup_seconds").read_text())
    except (OSError, ValueError):
        return None


def validation(metrics: Mapping[int, Mapping[str, float]]) -> dict[str, dict[str, list[float]]]:
    """verl's own validations during RL: `{"slow": {"step": […], "f1": […], …}, "fast": …}`."""
    found: dict[str, dict[str, list[float]]] = {}
    for mode in ("slow", "fast"):
        keys = {score: _VALIDATION.format(mode=mode, score=score) for score in SCORES}
        validated = {step: data for step, data in metrics.items() if keys["f1"] in data}
        found[mode] = {"step": list(validated)}
        found[mode] |= {score: [data[key] for data in validated.values()] for score, key in keys.items()}
    return found


def table(summary: Mapping[str, Any], sampled: bool = False) -> list[list[str]]:
    """The results on the test clips as rows of cells, the first the header; of greedy answers, or of sampled ones."""
    rows = [["model", "thinking", "EW F", "95 %", "EW R", "EW P", "clip F1", "format", "words", "cats", "clips"]]
    for model, by_mode in summary["models"].items():
        for mode in ("slow", "fast"):
            mean = by_mode[f"{mode}_sampled" if sampled else mode]
            cells = [percent(mean["ew_f"]), _range(mean["ew_f_ci95"]), percent(mean["ew_r"]), percent(mean["ew_p"])]
            cells += [percent(mean["f1"]), *(_number(mean[name]) for name in ("format", "num_words", "categories"))]
            rows.append([NAMES[model], mode, *cells, str(mean["n"])])
    return rows


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _range(interval: Sequence[float] | None) -> str:
    return "–" if interval is None else "–".join(f"{100 * value:.1f}" for value in interval)


def page(summary: Mapping[str, Any]) -> str:
    """results.md."""
    greedy, sampled = (markdown_table(table(summary, sampled)) for sampled in (False, True))
    seconds, memory, runs = summary["seconds"], summary["peak_rss_gb"], summary["runs"]
    gap = max(run["vllm_actor_logprob_max_abs_diff"] for run in runs.values())
    startup = "–" if seconds["rl_startup"] is None else f"{seconds['rl_startup']:.0f} s"
    speed = ", ".join(f"{NAMES[row]} {run['step_seconds']:.1f} s" for row, run in runs.items())
    return "\n".join(
        [
            "# Demo: does MER-R1 work on MER-Micro?",
            "",
            *(f"- {finding}" for finding in summary["findings"]),
            "",
            "![F1 of sampled answers during RL; EW F of slow and fast answers to the test clips](results.png)",
            "",
            "Differences are paired, clip by clip. The intervals are over test clips; they do not cover another seed.",
            "",
            "Greedy answers to the test clips, scored on the emotion wheels "
            f"({summary['wheels']['name']} {summary['wheels']['version']}):",
            "",
            *greedy,
            "",
            "Answers sampled at temperature 1 as in RL (RL trains only slow answers); means over a clip's samples:",
            "",
            *sampled,
            "",
            "EW F, R, P: of the official scorer, in percent, with the 95 % interval over clips. clip F1: mean over "
            "clips of each clip's F1, which RL rewards. words: per answer. cats: categories per answer and wheel.",
            "",
            f"- {len(runs['baseline']['f1'])} RL steps. Median time of a step: {speed}. First step after {startup}. "
            f"The stages took {seconds['total'] / 60:.1f} min together; an evaluation runs beside the next training. A "
            f"stage has at most {memory:.1f} GB resident memory (sum over processes; shared pages count in each).",
            f"- Log-probs of vLLM and of the actor differ by at most {gap:.1e}.",
            "- A synthetic corpus, a model of a million parameters, one seed. corpus/README.md says what is built into "
            "the corpus.",
            "",
        ]
    )
