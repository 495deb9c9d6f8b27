"""CMU-MOSEI, test set: sentiment from -3 to 3, scored by WAF."""

from data_prep.labels import NpzLabels
from data_prep.readers.merbench import merbench

READER = merbench(
    "mosei",
    "CMU-MOSEI (MER-UniBench)",
    NpzLabels("cmumosei-process/label.npz", "test_corpus", sentiment=True),
    audio="subaudio",
    video="subvideo_new",
    published=4659,
    scored=3634,
)
