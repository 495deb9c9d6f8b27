"""Made runs for the tests of the live page: metrics as main_ppo writes them."""

import json

TERMS = {"recall": 0.6, "precision": 0.3, "format": 0.1}


def step_metrics(step, *, confidence=True, terms=TERMS, missing=0):
    """One training step; gen takes 6 of its 10 s."""
    data = {
        "reward/recall": 0.50 + step / 100,
        "reward/precision": 0.60 + step / 100,
        "reward/f1": 0.55 + step / 100,
        "reward/format": 1.0,
        "reward/missing": missing,
        "reward/categories": 1.5,
        "reward/categories_max": 6.0,
        "reward/categories_labels": 1.25,
        "advantage/zero_groups": 0.05,
        "advantage/cancelled_groups": 0.15,
        "rollout_actor_log_prob_diff/max": 1e-5,
        "rollout_actor_log_prob_diff/mean": 1e-7,
        "timing_s/gen": 6.0,
        "timing_s/old_log_prob": 4e-4,
        "timing_s/update_actor": 3.0,
        "timing_s/step": 10.0,
    }
    if confidence:
        data |= {"confidence/margin_slow/mean": 2.5, "confidence/margin_fast/mean": 1.25}
    for name, std in terms.items():
        data |= {f"advantage/{name}/std": std, f"advantage/{name}/undefined": 0.25}
        data |= {f"advantage/{name}/constant_groups": 0.5, f"advantage/{name}/mean": 0.0}
    return data | {"advantage/std": 0.9} if terms else data


def validation_metrics(source="mer_micro", *, slow=0.8, fast=0.7):
    """What a validation adds to its step's metrics."""
    modes = {"slow": slow, "fast": fast}
    scores = ("recall", "precision", "f1", "format")
    return {f"val-aux/{source}/{mode}/{score}/mean@1": value for mode, value in modes.items() for score in scores} | {
        "timing_s/testing": 40.0
    }


def write_metrics(folder, metrics, tail=""):
    """metrics.jsonl of a run; ``tail``: what a kill left of a line."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"step": step, "data": data}) + "\n" for step, data in metrics.items())
    (folder / "metrics.jsonl").write_text("".join(lines) + tail, encoding="utf-8")
    return folder
