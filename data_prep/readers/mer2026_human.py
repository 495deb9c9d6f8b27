"""MER2026, track 2, human labels: 1,532 clips for validation or RL; an empty list counts as neutral (gated)."""

from data_prep.labels import OpensetCsv
from data_prep.readers.mer_challenge import MER2026, challenge

READER = challenge(
    "mer2026_human",
    "MER2026, track 2: human labels",
    MER2026,
    OpensetCsv(f"{MER2026}/track2_train_human.csv", empty="neutral"),
    may_train=True,
    published=1_532,
)
