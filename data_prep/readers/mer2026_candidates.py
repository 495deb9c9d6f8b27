"""MER2026, tracks 1 and 2: the 20,000 clips without labels that a submission answers (gated)."""

from data_prep.labels import NamesCsv
from data_prep.readers.mer_challenge import MER2026, challenge

READER = challenge(
    "mer2026_candidates",
    "MER2026, track 1 and 2: candidates",
    MER2026,
    NamesCsv(f"{MER2026}/track1_track2_candidate.csv"),
    labelled=False,
    published=20_000,
)
