"""MER2026, track 2, training: MER-Caption+'s 31,327 clips, which come without reasons (gated)."""

from data_prep.labels import OpensetCsv
from data_prep.readers.mer_challenge import MER2026, challenge

READER = challenge(
    "mer2026",
    "MER2026, track 2: MER-Caption+",
    MER2026,
    OpensetCsv(f"{MER2026}/track2_train_mercaptionplus.csv"),
    training=True,
    if_no_reasons="MER2026 comes without reasons: for the slow form, add --reasons with the file "
    "track3_train_mercaptionplus.csv of MER2025",
    published=31_327,
)
