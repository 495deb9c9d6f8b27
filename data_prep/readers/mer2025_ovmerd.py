"""MER2025, track 2 and 3, OV-MERD: human labels with reasons, for training (gated)."""

from data_prep.labels import OpensetCsv
from data_prep.readers.mer_challenge import MER2025, challenge
from data_prep.tables import TextTable

READER = challenge(
    "mer2025_ovmerd",
    "OV-MERD (MER2025, track 2 and 3)",
    MER2025,
    OpensetCsv(f"{MER2025}/track2_train_ovmerd.csv"),
    reasons=TextTable(f"{MER2025}/track3_train_ovmerd.csv", "reason"),
    training=True,
    published=332,
)
