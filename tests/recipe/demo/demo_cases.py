"""Made results of a demo: what its stages would have left."""

import json

from metrics_lines import step, validation

from recipe.mer_r1.demo.stages import SCALES, plan
from recipe.mer_r1.method.wheel import EmotionWheels
from recipe.mer_r1.pipeline.stamps import Stamp

BUILTIN = EmotionWheels.builtin()
STAGES = (
    "data",
    "init",
    "base",
    "sft",
    "eval_sft",
    "baseline",
    "eval_baseline",
    "mer_r1",
    "eval_mer_r1",
)


FORMS = ("slow", "fast", "slow_sampled", "fast_sampled")
MEANS = {"recall": 0.7, "precision": 0.6, "format": 1.0, "f1_stderr": 0.02}
MEANS |= {"num_words": 1.8, "categories": 1.6, "tokens": 30.0, "finished": 1.0, "n": 40, "n_unmapped": 0}
CLIPS = 40


def answers(share, samples=1):
    """Lines of answers of which the first clips, this share, are right and the others wrong: P = R = F = the share."""
    lines = []
    for clip in range(CLIPS):
        for sample in range(samples):
            words = ["happy"] if clip < round(share * CLIPS) else ["sad"]
            line = {"index": clip, "sample": sample, "name": f"test_{clip:05d}", "data_source": "mer_micro"}
            line |= {"prompt_sha256": "p", "labels": ["happy"], "response": "", "words": words}
            right = float(words == ["happy"])
            line |= {"wheels": 5, "f1": right, "recall": right, "precision": right, "format": 1.0}
            lines.append(json.dumps(line | {"tokens": 3, "finished": True}) + "\n")
    return "".join(lines)


def finished(out, f1, models=None):
    """A finished demo in `out` whose RL steps had these F1; returns its stamps.

    `models` are EW F of the answers to test clips by model and mode, .65 where nothing is said.
    """
    for number, row in enumerate(("baseline", "mer_r1")):
        (out / row).mkdir(parents=True)
        lines = [step(place, value, gap=place * 1e-7, seconds=4.0 + number) for place, value in enumerate(f1, start=1)]
        (out / row / "metrics.jsonl").write_text(validation(0, 0.5) + "".join(lines) + validation(len(f1), 0.7))
    (out / "corpus").mkdir()
    (out / "corpus" / "manifest.json").write_text('{"generator": 2, "voice": "tones", "rows": {"test": 160}}')
    for model in ("sft", "baseline", "mer_r1"):
        write_model(out, model, (models or {}).get(model, {}))
    stages = {stage.name: stage for stage in plan(out, SCALES["full"])}
    return {
        name: Stamp("k", " ".join(stages[name].command), True, 10.0, 3.0, 60.0 if name == "baseline" else None)
        for name in STAGES
    }


def write_model(out, model, f1_of):
    """The answers of a model and their means."""
    folder = out / f"eval_{model}" / "mer_micro"
    folder.mkdir(parents=True, exist_ok=True)
    means = {mode: MEANS | _scores(f1_of.get(mode, 0.65)) for mode in FORMS}
    scores = {"modes": means, "settings": {"wheels": {"name": "x", "version": "1"}}, "starts": []}
    (folder / "scores.json").write_text(json.dumps(scores))
    settings = {"model": str(out / model), "weights_sha256": model, "shard": "test.parquet", "media_root": None}
    settings |= {"corpus": "mer_micro", "split": "test", "n_shard": CLIPS, "clips_sha256": "c", "temperature": 0.0}
    settings |= {"max_tokens": 9, "max_prompt_length": 9, "media": {}, "dtype": "float32", "seed": 0}
    (folder / "settings.json").write_text(json.dumps(settings | {"wheels": BUILTIN.identity}))
    for mode in FORMS:
        (folder / f"{mode}.jsonl").write_text(answers(f1_of.get(mode, 0.65), 4 if "sampled" in mode else 1))


def _scores(value):
    return {"ew_f": value, "ew_r": value, "ew_p": value, "ew_f_ci95": [value - 0.1, value + 0.1], "f1": value - 0.01}
