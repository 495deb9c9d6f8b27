"""MER-Micro: a made corpus of talking faces whose face, voice and words may disagree. See docs/MER-Micro.md."""
