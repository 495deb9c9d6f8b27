"""MER2025, all tracks: the 20,000 clips without labels that a submission answers (gated)."""

from data_prep.labels import NamesCsv
from data_prep.readers.mer_challenge import MER2025, challenge

READER = challenge(
    "mer2025_candidates",
    "MER2025, all tracks: candidates",
    MER2025,
    NamesCsv(f"{MER2025}/track_all_candidates.csv"),
    labelled=False,
    published=20_000,
)
