"""CH-SIMS, test set: sentiment from -1 to 1, scored by WAF."""

from data_prep.labels import NpzLabels
from data_prep.readers.merbench import merbench

READER = merbench(
    "sims",
    "CH-SIMS (MER-UniBench)",
    NpzLabels("sims-process/label.npz", "test_corpus", sentiment=True),
    published=457,
    scored=388,
)
