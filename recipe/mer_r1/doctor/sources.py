"""Where corpora, wheels and models come from: page, licence, who grants access, size, and the folder to make of it.

docs/sources.md has the same facts, and where each was read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

NOT_CHECKED = "not checked"
_UNIBENCH = "https://github.com/zeroQiaoba/AffectGPT"
_OWN_TERMS = "the corpus's own terms, not checked"
_EULA = "agree to the terms on the page (Hugging Face account)"
_LINKS = "links in the README; none checked"


@dataclass(frozen=True)
class Source:
    """One thing to download.

    Attributes:
        name: of a corpus (`data_prep --corpus`), a set of wheels or a model.
        folder: what it becomes: the folder that `--root`, `--wheels` or a preset's key names, or what lies in it.
        parameters: of a model's Thinker; 0 for others.
    """

    name: str
    page: str
    licence: str
    access: str
    size: str
    folder: str
    parameters: int = 0

    def where(self) -> str:
        """One line for a message."""
        return f"{self.page} (licence: {self.licence}; access: {self.access}; size: {self.size})"


def _unibench(name: str, folder: str) -> Source:
    return Source(name, _UNIBENCH, _OWN_TERMS, _LINKS, NOT_CHECKED, f"DIR/{folder}")


def _challenge(name: str, year: int, clips: str) -> Source:
    page = f"https://huggingface.co/datasets/MERChallenge/MER{year}"
    licence = "CC BY-NC 4.0, and academic research only" if year == 2025 else "CC BY-NC 4.0"
    access = _EULA if year == 2025 else "one request for a team, which the organisers review"
    return Source(name, page, licence, access, f"{clips} clips; bytes {NOT_CHECKED}", f"DIR/mer{year}-dataset")


CORPORA = (
    Source(
        "mer_caption_plus",
        "https://huggingface.co/datasets/MERChallenge/MER2025",
        "CC BY-NC 4.0, and academic research only",
        _EULA,
        f"132,171 clips, of which 31,327 are used; bytes {NOT_CHECKED}",
        "DIR/mer2025-dataset",
    ),
    _challenge("mer2025_ovmerd", 2025, "332"),
    _challenge("mer2025_ov", 2025, "1,200"),
    _challenge("mer2025_candidates", 2025, "20,000"),
    _challenge("mer2026", 2026, "31,327"),
    _challenge("mer2026_human", 2026, "1,532"),
    _challenge("mer2026_candidates", 2026, "20,000"),
    _unibench("ov_merd_plus", "ovmerdplus-process"),
    _unibench("mer2023", "mer2023-dataset-process"),
    _unibench("mer2024", "mer2024-dataset-process"),
    _unibench("meld", "meld-process"),
    _unibench("iemocap", "iemocap-process"),
    _unibench("mosi", "cmumosi-process"),
    _unibench("mosei", "cmumosei-process"),
    _unibench("sims", "sims-process"),
    _unibench("simsv2", "simsv2-process"),
    Source(
        "mme_emotion",
        "https://huggingface.co/datasets/Karl28/MME-Emotion",
        NOT_CHECKED,
        NOT_CHECKED,
        f"6,500 clips; bytes {NOT_CHECKED}",
        "DIR",
    ),
    Source("micro", "python -m data_prep micro --out DIR", "Apache-2.0, made here", "none needed", "150 MB", "DIR"),
)
WHEELS = (
    Source(
        "mer2025 wheels",
        "https://github.com/zeroQiaoba/MERTools/tree/master/MER2025/MER2025_Track23/emotion_wheel",
        "Apache-2.0 (the repository's), non-commercial use by its README",
        "none needed",
        "below 1 MB",
        "emotion_wheel/mer2025",
    ),
    Source(
        "mer2026 wheels",
        "https://github.com/zeroQiaoba/MERTools/tree/master/MER2026/MER2026_Track2/emotion_wheel",
        "Apache-2.0 (the repository's), non-commercial use by its README",
        "none needed",
        "below 1 MB",
        "emotion_wheel/mer2026",
    ),
)
MODELS = (
    Source(
        "Qwen/Qwen2.5-Omni-7B",
        "https://huggingface.co/Qwen/Qwen2.5-Omni-7B",
        "Apache-2.0",
        "none needed",
        "22.4 GB",
        "models/Qwen2.5-Omni-7B",
        8_930_000_000,
    ),
    Source(
        "Qwen/Qwen2.5-Omni-3B",
        "https://huggingface.co/Qwen/Qwen2.5-Omni-3B",
        "Qwen Research License (non-commercial)",
        "none needed",
        "12 GB",
        "models/Qwen2.5-Omni-3B",
        4_700_000_000,
    ),
)
ALL = (*CORPORA, *WHEELS, *MODELS)


def of_shard(path: str | Path) -> Source | None:
    """The corpus of `data/NAME/shards/FILE.parquet`; None for another place."""
    parts = Path(path).parts
    return next((source for source in CORPORA if source.name in parts), None)


def model(name: str) -> Source | None:
    """The model of a hub's name, or of a folder with the model's name."""
    return next(
        (one for one in MODELS if name in (one.name, one.folder) or Path(name).name == Path(one.folder).name), None
    )


def as_text() -> str:
    """All of them, for `doctor --sources`."""
    lines = []
    for title, group in (("Corpora", CORPORA), ("Emotion wheels", WHEELS), ("Models", MODELS)):
        lines.append(f"{title}:")
        for one in group:
            lines += [f"  {one.name}", f"    from     {one.page}", f"    licence  {one.licence}"]
            lines += [f"    access   {one.access}", f"    size     {one.size}", f"    becomes  {one.folder}"]
    return "\n".join(
        [*lines, "What each corpus's folder holds: docs/corpora.md. Where these facts were read: docs/sources.md."]
    )
