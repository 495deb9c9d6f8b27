"""Qualitative cases of two models (paper, Appendix E), found by rules and shown on a page."""
