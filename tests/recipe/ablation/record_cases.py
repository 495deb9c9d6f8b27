"""Made records: scores with a known mean for each row, seed and mode."""

import numpy as np

from recipe.mer_r1.ablation import record
from recipe.mer_r1.ablation.record import Clips, Confidence, FormMetrics, Git, Metrics, Record, Training

MODES = ("slow", "fast", "slow_sampled", "fast_sampled")
CLIPS = 200


def made(row, seed, f1, noise=0.0, clips=CLIPS, start="the start", curves=None, **fields):
    """A record whose clips have exactly these mean F1 by mode; recall is .1 above, precision .05 below.

    Args:
        f1: by mode; a number stands for all of them.
        noise: standard deviation of a clip's score, drawn by row and seed.
    """
    draw = np.random.default_rng([seed, sum(map(ord, row))])
    forms, metrics = {}, {}
    for mode in MODES:
        mean = f1[mode] if isinstance(f1, dict) else f1
        spread = draw.normal(0, noise, clips)
        values = mean + spread - spread.mean()
        shifts = {"f1": 0.0, "recall": 0.1, "precision": -0.05}
        forms[mode] = {score: (values + shift).tolist() for score, shift in shifts.items()}
        forms[mode]["f1_well_formed"] = (values + 0.02).tolist()
        metrics[mode] = FormMetrics(
            n=clips, samples=4 if "sampled" in mode else 1, f1=mean, recall=mean + 0.1, precision=mean - 0.05,
            f1_stderr=0.01, categories=1.4, words=1.9, format=0.98, tokens=30, n_failed=0,
        )  # fmt: skip
    confidence = {form: Confidence(truth=-1.25, margin=2.5, n=clips) for form in ("slow", "fast")}
    return Record(
        row=row,
        experiment=None if row.startswith("sft") else row,
        seed=seed,
        state="finished",
        git=Git(commit="abc", dirty=False),
        versions={},
        overrides=[],
        settings_sha256="x",
        settings={"start": {"name": start, "seed": seed}},
        metrics=Metrics(forms=metrics, confidence=confidence, retained_hit=0.9),
        training=Training(steps=4, seconds_per_step=3.5, seconds=14, curves=curves or {}),
        clips=Clips(names=[f"clip{index}" for index in range(clips)], forms=forms),
        **fields,
    )


def failed(row, seed, reason):
    return made(row, seed, 0.5).model_copy(
        update={"state": "failed", "reason": reason, "metrics": None, "training": None, "clips": None}
    )


def write(folder, *records):
    for one in records:
        record.write(folder, f"{one.row}-{one.seed}", one)
    return folder
