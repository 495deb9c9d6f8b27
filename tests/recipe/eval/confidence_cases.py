"""Confidences beside a folder of answers, as `main_eval confidence` leaves them, made without a model."""

from pathlib import Path
from types import SimpleNamespace

from recipe.mer_r1.eval import records
from recipe.mer_r1.eval.answers import read_answers
from recipe.mer_r1.eval.confidence_files import Meta, claim, confidence_path, line
from recipe.mer_r1.eval.results import Reading
from recipe.mer_r1.method.wheel import EmotionWheels

NAN = float("nan")


def meta(folder: Path, **changes) -> Meta:
    """Settings of a folder's model; `changes` are of the reading."""
    reading = Reading(**{"words": "mapped", "shared_tokens": "split", "floor": -20.0, "precision": "fp32"} | changes)
    weights = read_answers(folder).settings.weights_sha256
    return Meta(wheels=EmotionWheels.builtin().identity, weights_sha256=weights, reading=reading)


def form(truth: float, negatives: float = -4.0) -> SimpleNamespace:
    """As `FormConfidence`."""
    return SimpleNamespace(
        truth=truth, negatives=negatives, margin=truth - negatives, categories={"w1": {"happy": truth}}
    )


def sure(folder: Path, mode: str, truths, negatives: float = -4.0, **changes) -> Path:
    """Write a mode's confidences on the truth, a clip each; NaN for one that is undefined."""
    path = folder / f"{mode}.jsonl"
    claim(path, meta(folder, **changes))
    for answer, truth in zip(read_answers(folder).modes[mode], truths, strict=False):
        own = form(truth, negatives)
        kept = line(answer, own, own, {"calib_pos": 0.5, "calib_neg": NAN})
        records.append(confidence_path(path), [kept.model_dump()])
    return folder
