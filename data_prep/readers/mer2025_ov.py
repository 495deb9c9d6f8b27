"""MER2025, track 2, test set (MER2025-OV): human labels; the download of the participants has no such file (gated)."""

from data_prep.labels import OpensetCsv
from data_prep.readers.mer_challenge import MER2025, challenge

READER = challenge(
    "mer2025_ov",
    "MER2025-OV (MER2025, track 2)",
    MER2025,
    OpensetCsv(f"{MER2025}/track2_test.csv", empty="neutral"),
    may_train=True,
    published=1_200,
)
