"""What came out of a demo, as data (summary.json) and as a page (results.md). Numbers are read, never adjusted."""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from recipe.mer_r1.files.provenance import git_state, versions
from recipe.mer_r1.pipeline import progress
from recipe.mer_r1.pipeline.stamps import Stamp
from recipe.mer_r1.run import steps

SCORES = ("f1", "recall", "precision", "format")
MODES = ("slow", "fast")
_WINDOW = 5  # steps at either end that are compared
_FORMAT_WANTED = 0.9
_LIBRARIES = ("mer-r1", "verl", "vllm", "torch", "transformers", "ray", "TransferQueue", "numpy")
_VALIDATION = "val-aux/mer_micro/{mode}/{score}/mean@1"


def build(out: Path, stamps: Mapping[str, Stamp]) -> dict[str, Any]:
    """The summary of a finished demo in `out`.

    `seconds.setup` is what `make setup` took, null where it has left no note; `seconds.rl_startup` runs from the
    start of the RL command to the beginning of its first training step.
    """
    metrics = steps.read(out / "rl" / "metrics.jsonl")
    taken = progress.read_steps(out / "rl" / "metrics.jsonl")
    rl = {score: [data[f"reward/{score}"] for data in taken.values()] for score in SCORES}
    after, before = (
        json.loads((out / name / "mer_micro" / "scores.json").read_text()) for name in ("eval_rl", "eval_sft")
    )
    corpus = json.loads((out / "corpus" / "manifest.json").read_text())
    return {
        "rl": rl,
        "eval": {mode: after["modes"][mode] for mode in MODES},
        "vllm_actor_logprob_max_abs_diff": max(data["rollout_actor_log_prob_diff/max"] for data in taken.values()),
        "seconds": {
            "setup": setup_seconds(),
            "data": stamps["data"].seconds,
            "sft": stamps["init"].seconds + stamps["sft"].seconds,
            "rl_startup": stamps["rl"].first_step_seconds,
            "rl_step_median": statistics.median(data["timing_s/step"] for data in taken.values()),
            "eval": stamps["eval_sft"].seconds + stamps["eval_rl"].seconds,
            "total": sum(stamp.seconds for stamp in stamps.values()),
        },
        "peak_rss_gb": max(stamp.peak_rss_gb for stamp in stamps.values()),
        "versions": versions(*_LIBRARIES),
        # What follows is more than the table of results asks for.
        "eval_sft": {mode: before["modes"][mode] for mode in MODES},
        "eval_sampled": {mode: after["modes"][f"{mode}_sampled"] for mode in MODES},
        "eval_sft_sampled": {mode: before["modes"][f"{mode}_sampled"] for mode in MODES},
        "validation": validation(metrics),
        "learnt": verdict(rl),
        "stage_seconds": {name: stamp.seconds for name, stamp in stamps.items()},
        "corpus": {key: corpus[key] for key in ("voice", "rows")},
        "wheels": after["settings"]["wheels"],
        "machine": {"cores": os.cpu_count(), "memory_gb": psutil.virtual_memory().total / 1e9},
        "git": git_state(),
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


def verdict(rl: Mapping[str, list[float]]) -> dict[str, Any]:
    """Whether the model learnt: F1 of the last five steps above that of the first five, and format kept."""
    first, last = (statistics.fmean(part) for part in (rl["f1"][:_WINDOW], rl["f1"][-_WINDOW:]))
    well_formed = statistics.fmean(rl["format"][-_WINDOW:])
    enough = len(rl["f1"]) >= 2 * _WINDOW
    return {
        "yes": enough and last > first and well_formed >= _FORMAT_WANTED,
        "enough_steps": enough,
        "f1_first": first,
        "f1_last": last,
        "format_last": well_formed,
    }


def statement(learnt: Mapping[str, Any]) -> str:
    """The verdict in a sentence."""
    numbers = (
        f"F1 of sampled answers {learnt['f1_first']:.3f} in the first {_WINDOW} steps, {learnt['f1_last']:.3f} in the "
        f"last {_WINDOW}; format {learnt['format_last']:.2f} (goal: {_FORMAT_WANTED})"
    )
    if not learnt["enough_steps"]:
        return f"Too few steps to tell whether the model learnt (at least {2 * _WINDOW} are needed): {numbers}."
    return f"The model {'learnt' if learnt['yes'] else 'did NOT learn'} in RL: {numbers}."


def table(summary: Mapping[str, Any], sampled: bool = False) -> list[list[str]]:
    """The results on the test clips as rows of cells, the first the header; of greedy answers, or of sampled ones."""
    names = ("recall", "precision", "f1", "format", "num_words", "categories")
    rows = [["model", "thinking", "recall", "precision", "F1", "± F1", "format", "words", "cats", "clips"]]
    for model, key in (("SFT", "eval_sft"), ("RL", "eval")):
        for mode, mean in summary[f"{key}_sampled" if sampled else key].items():
            cells = [_number(mean[name], 3 if name in SCORES[:3] else 2) for name in names]
            cells.insert(3, _number(mean["f1_stderr"], 3))
            rows.append([model, mode, *cells, str(mean["n"])])
    return rows


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _markdown(rows: list[list[str]]) -> list[str]:
    header, *rest = rows
    return ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rest)]


def page(summary: Mapping[str, Any]) -> str:
    """results.md."""
    greedy, sampled = (_markdown(table(summary, sampled)) for sampled in (False, True))
    seconds, memory = summary["seconds"], summary["peak_rss_gb"]
    gap = summary["vllm_actor_logprob_max_abs_diff"]
    startup = "–" if seconds["rl_startup"] is None else f"{seconds['rl_startup']:.0f} s"
    return "\n".join(
        [
            "# Demo: MER-Micro, tiny Thinker, baseline reward",
            "",
            statement(summary["learnt"]),
            "",
            "![rewards over steps, slow and fast answers](results.png)",
            "",
            "Greedy answers to the test clips, scored on the emotion wheels "
            f"({summary['wheels']['name']} {summary['wheels']['version']}):",
            "",
            *greedy,
            "",
            "One answer per clip, sampled at temperature 1 as in RL (RL trains only slow answers):",
            "",
            *sampled,
            "",
            "words: words per answer; cats: categories per answer and wheel; ± F1: standard error over clips.",
            "",
            f"- {len(summary['rl']['f1'])} RL steps, {seconds['rl_step_median']:.1f} s each (median), "
            f"first step after {startup}; all stages took {seconds['total'] / 60:.1f} min; "
            f"at most {memory:.1f} GB resident memory (sum over processes; shared pages count in each process).",
            f"- Log-probs of vLLM and of the actor differ by at most {gap:.1e}.",
            "- A synthetic corpus, a model of a million parameters, one seed: this shows that the pipeline works, "
            "not how real models behave. The card of the corpus, corpus/README.md, says what is built into the "
            "corpus.",
            "",
        ]
    )
