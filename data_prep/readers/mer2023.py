"""MER2023, test set 1: six basic emotions, scored by HIT."""

from data_prep.labels import NpzLabels
from data_prep.readers.merbench import merbench

READER = merbench(
    "mer2023",
    "MER2023 (MER-UniBench)",
    NpzLabels("mer2023-dataset-process/label-6way.npz", "test1_corpus"),
    suffixes=(".mp4", ".avi"),
    published=411,
    scored=323,
)
