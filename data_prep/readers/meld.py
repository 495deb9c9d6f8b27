"""MELD, test set: seven emotions as numbers, scored by HIT."""

from data_prep.labels import NpzLabels
from data_prep.readers.merbench import merbench

READER = merbench(
    "meld",
    "MELD (MER-UniBench)",
    NpzLabels("meld-process/label.npz", "test_corpus", emotions="meld"),
    audio="subaudio",
    video="subvideo",
    published=2610,
    scored=1354,
)
