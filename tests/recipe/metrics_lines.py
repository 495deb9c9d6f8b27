"""Lines of a metrics file, as a run of RL writes them."""

import json

SCORES = ("f1", "recall", "precision", "format")


def step(number, f1=0.6, form=1.0, seconds=4.0, gap=1e-6):
    """A training step's line of metrics.jsonl."""
    data = {
        "reward/f1": f1,
        "reward/recall": f1 + 0.1,
        "reward/precision": f1 - 0.1,
        "reward/format": form,
        "rollout_actor_log_prob_diff/max": gap,
        "timing_s/step": seconds,
    }
    return json.dumps({"step": number, "data": data}) + "\n"


def validation(number, f1):
    """A validation's line."""
    names = {f"val-aux/mer_micro/{mode}/{score}/mean@1": f1 for mode in ("slow", "fast") for score in SCORES}
    return json.dumps({"step": number, "data": names}) + "\n"
