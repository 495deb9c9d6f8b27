"""IEMOCAP, fifth session: four emotions as numbers, scored by HIT."""

from data_prep.labels import NpzLabels
from data_prep.readers.merbench import merbench

READER = merbench(
    "iemocap",
    "IEMOCAP, session 5 (MER-UniBench)",
    NpzLabels("iemocap-process/label_4way.npz", "whole_corpus", emotions="iemocap", names="....5"),
    audio="subaudio",
    video="subvideo-tgt",
    suffixes=(".avi",),
    published=1241,
    scored=857,
)
