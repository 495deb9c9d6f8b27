"""MER-Micro, the made corpus: MER-Caption+'s layout in `train/` and `test/` (docs/MER-Micro.md)."""

from data_prep.readers.mer_caption_plus import reader

READER = reader("micro", "MER-Micro (made, not recorded): training clips", "train", None)
