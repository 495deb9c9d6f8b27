"""MER-Caption+ with one good clip, to be spoiled in one place a test."""

from pathlib import Path

import corpora

from data_prep import readers
from data_prep.clip import Clip
from data_prep.places import Root

FOLDER = "mer2025-dataset"
OPENSETS, SUBTITLES, REASONS = (
    "track2_train_mercaptionplus.csv",
    "subtitle_chieng.csv",
    "track3_train_mercaptionplus.csv",
)
PEAK = (
    "from pathlib import Path\n"
    "def peak():\n"
    "    # Not ru_maxrss: a child of fork and exec starts with its parent's.\n"
    "    return int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
)
"""Peak memory of this process in kB."""


def make(root: Path) -> Path:
    """The corpus in `root`; returns its own folder. The clip's name is "good"."""
    folder = root / FOLDER
    corpora.media(folder, ["good"])
    corpora.table(folder / OPENSETS, "name,openset", "good,[happy]")
    corpora.table(folder / SUBTITLES, "name,chinese,english", "good,好,Well")
    corpora.table(folder / REASONS, "name,reason", "good,He smiles.")
    return folder


def read(corpus: Path, **options) -> list[Clip]:
    """All clips; `options` are Root's."""
    return list(readers.get("mer_caption_plus").clips(Root(corpus.parent, **options)))


def faults(corpus: Path, **options) -> list[tuple[str, str]]:
    """(name, kind) of every fault."""
    return [(fault.name, fault.kind) for clip in read(corpus, **options) for fault in clip.faults]


def add(corpus: Path, file: str, line: str, encoding: str = "utf-8") -> None:
    """A line at the end of a table."""
    with (corpus / file).open("ab") as out:
        out.write((line + "\n").encode(encoding))
