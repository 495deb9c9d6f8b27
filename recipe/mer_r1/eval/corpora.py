"""How a corpus is scored, and which column of the paper's Table 1 it is."""

from __future__ import annotations

from typing import Literal

Task = Literal["ew", "hit", "waf", "judge"]

COLUMNS = {
    "ov_merd_plus": "ov_merd_plus",
    "mer2023": "mer23",
    "mer2024": "mer24",
    "meld": "meld",
    "iemocap": "iemocap",
    "mosi": "mosi",
    "mosei": "mosei",
    "sims": "sims",
    "simsv2": "simsv2",
}
"""The benchmark's corpora (a shard's `data_source`), in the paper's order, and their columns in paper.yaml."""

TITLES = {
    "ov_merd_plus": "OV-MERD+",
    "mer2023": "MER23",
    "mer2024": "MER24",
    "meld": "MELD",
    "iemocap": "IEMOCAP",
    "mosi": "MOSI",
    "mosei": "MOSEI",
    "sims": "SIMS",
    "simsv2": "SIMSv2",
    "mme_emotion": "MME-Emotion",
    "mer2025_ov": "MER2025-OV",
    "mer2025_ovmerd": "OV-MERD",
    "mer2025_candidates": "MER2025 candidates",
    "mer2026": "MER2026, MER-Caption+",
    "mer2026_human": "MER2026, human labels",
    "mer2026_candidates": "MER2026 candidates",
    "micro": "MER-Micro",
    "mer_micro": "MER-Micro",
}
BASIC = ("mer2023", "mer2024", "meld", "iemocap")
SENTIMENT = ("mosi", "mosei", "sims", "simsv2")
RECOGNITION = ("ov_merd_plus", *BASIC)
"""What the paper's R-Mean (Table 3) averages."""


def corpus_of(data_source: str) -> str:
    """A row's corpus; MME-Emotion is one, whose rows name their task too ("mme_emotion/ER-Lab")."""
    return data_source.split("/")[0]


def task_of(corpus: str) -> Task:
    """The benchmark's score of a corpus; of one that is not the benchmark's, EW."""
    if corpus in BASIC:
        return "hit"
    if corpus in SENTIMENT:
        return "waf"
    return "judge" if corpus == "mme_emotion" else "ew"


def official_metric(corpus: str, *, unified: bool = False) -> str:
    """Key of `Result.metrics`: F, hit, waf or cot. `unified`: F for the basic emotions too, as in Table 3."""
    return {"ew": "F", "hit": "F" if unified else "hit", "waf": "waf", "judge": "cot"}[task_of(corpus)]
