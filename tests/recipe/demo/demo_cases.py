"""Made results of a demo: what its stages would have left."""

import json

from metrics_lines import step, validation

from recipe.mer_r1.demo.stages import SCALES, plan
from recipe.mer_r1.pipeline.stamps import Stamp

STAGES = ("data", "init", "sft", "eval_sft", "rl", "eval_rl")


FORMS = ("slow", "fast", "slow_sampled", "fast_sampled")
MEANS = {"recall": 0.7, "precision": 0.6, "f1": 0.65, "format": 1.0, "f1_stderr": 0.02}
MEANS |= {"num_words": 1.8, "categories": 1.6, "tokens": 30.0, "finished": 1.0, "n": 160, "n_unmapped": 0}


def finished(out, f1):
    """A finished demo in `out` whose RL steps had these F1; returns its stamps."""
    (out / "rl").mkdir(parents=True)
    lines = [step(number, value, gap=number * 1e-7) for number, value in enumerate(f1, start=1)]
    (out / "rl" / "metrics.jsonl").write_text(validation(0, 0.5) + "".join(lines) + validation(len(f1), 0.7))
    (out / "corpus").mkdir()
    (out / "corpus" / "manifest.json").write_text('{"voice": "tones", "rows": {"test": 160}}')
    for name in ("eval_sft", "eval_rl"):
        (out / name / "mer_micro").mkdir(parents=True)
        scores = {"modes": dict.fromkeys(FORMS, MEANS), "settings": {"wheels": {"name": "x", "version": "1"}}}
        (out / name / "mer_micro" / "scores.json").write_text(json.dumps(scores))
    stages = {stage.name: stage for stage in plan(out, SCALES["full"])}
    return {
        name: Stamp("k", " ".join(stages[name].command), True, 10.0, 3.0, 60.0 if name == "rl" else None)
        for name in STAGES
    }
