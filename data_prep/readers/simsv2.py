"""CH-SIMS v2, test set: sentiment from -1 to 1, scored by WAF."""

from data_prep.labels import NpzLabels
from data_prep.readers.merbench import merbench

READER = merbench(
    "simsv2",
    "CH-SIMS v2 (MER-UniBench)",
    NpzLabels("simsv2-process/label.npz", "test_corpus", sentiment=True),
    video="video_new",
    published=1034,
    scored=911,
)
