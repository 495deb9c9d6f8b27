"""MER-Caption+: the paper's training data, 31,327 labelled clips with model-written reasons (gated)."""

from data_prep.labels import OpensetCsv
from data_prep.places import MediaFolder
from data_prep.reader import Reader
from data_prep.tables import TextTable

SUBTITLES, OPENSETS, REASONS = (
    "subtitle_chieng.csv",
    "track2_train_mercaptionplus.csv",
    "track3_train_mercaptionplus.csv",
)
_IF_MISSING = (
    "if this is the folder of MER2026, which comes without reasons, use --corpus mer2026 (docs/challenge.md); else see "
    "docs/corpora.md for the layout"
)


def reader(name: str, title: str, folder: str, published: int | None) -> Reader:
    """A corpus in this layout."""
    return Reader(
        name=name,
        title=title,
        labels=OpensetCsv(f"{folder}/{OPENSETS}"),
        video=MediaFolder(f"{folder}/video", (".mp4",)),
        audio=MediaFolder(f"{folder}/audio", (".wav",)),
        subtitles=TextTable(f"{folder}/{SUBTITLES}", "english"),
        reasons=TextTable(f"{folder}/{REASONS}", "reason", if_missing=_IF_MISSING),
        training=True,
        published=published,
    )


READER = reader("mer_caption_plus", "MER-Caption+ (MER2025, track 2 and 3)", "mer2025-dataset", 31_327)
