"""CMU-MOSI, test set: sentiment from -3 to 3, scored by WAF."""

from data_prep.labels import NpzLabels
from data_prep.readers.merbench import merbench

READER = merbench(
    "mosi",
    "CMU-MOSI (MER-UniBench)",
    NpzLabels("cmumosi-process/label.npz", "test_corpus", sentiment=True),
    audio="subaudio",
    video="subvideo",
    published=686,
    scored=656,
)
