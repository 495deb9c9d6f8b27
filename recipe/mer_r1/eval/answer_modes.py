"""The modes in which a model answers a clip: slow and fast, greedy or sampled."""

from __future__ import annotations

from recipe.mer_r1.method.answer import FAST_PREFIX

PREFIXES = {"slow": "", "fast": FAST_PREFIX}
"""What the reply is made to begin with."""
SAMPLED = "_sampled"
"""Ending of the modes that are sampled at temperature 1, as RL samples, whatever `--temperature` says."""
MODES = (*PREFIXES, *(f"{mode}{SAMPLED}" for mode in PREFIXES))
"""slow, fast, slow_sampled, fast_sampled. The seed of an answer depends on the order."""
