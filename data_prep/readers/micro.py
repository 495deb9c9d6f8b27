"""MER-Micro, the made corpus: MER-Caption+'s layout in `train/`, `test/` and `base/` (docs/MER-Micro.md)."""

from dataclasses import replace

from data_prep.readers.mer_caption_plus import reader

TEST = replace(reader("micro", "MER-Micro, test clips", "test", None), training=False)
READER = replace(reader("micro", "MER-Micro (made, not recorded)", "train", None), test=TEST)
BASE = replace(reader("micro", "MER-Micro, base clips", "base", None), training=False)
