"""MER2024, test set 1: six basic emotions, scored by HIT; its transcripts are read in Chinese, as MER-UniBench does."""

from data_prep.labels import NpzLabels
from data_prep.readers.merbench import merbench

READER = merbench(
    "mer2024",
    "MER2024 (MER-UniBench)",
    NpzLabels("mer2024-dataset-process/label-6way.npz", "test1_corpus"),
    transcripts="transcription_merge.csv",
    column="chinese",
    published=1169,
)
