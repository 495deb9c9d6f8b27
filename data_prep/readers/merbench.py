"""What the sets of MER-UniBench share: one folder a set, an npz of labels, a CSV of transcripts."""

from collections.abc import Sequence

from data_prep.labels import NpzLabels
from data_prep.places import MediaFolder
from data_prep.reader import Reader
from data_prep.tables import TextTable


def merbench(
    name: str,
    title: str,
    labels: NpzLabels,
    *,
    audio: str = "audio",
    video: str = "video",
    suffixes: Sequence[str] = (".mp4",),
    transcripts: str = "transcription-engchi-polish.csv",
    column: str = "english",
    published: int,
    scored: int | None = None,
) -> Reader:
    """A reader for the set whose label file's folder also holds its media and transcripts."""
    folder = labels.file.split("/")[0]
    return Reader(
        name=name,
        title=title,
        labels=labels,
        video=MediaFolder(f"{folder}/{video}", suffixes),
        audio=MediaFolder(f"{folder}/{audio}", (".wav",)),
        subtitles=TextTable(f"{folder}/{transcripts}", column),
        published=published,
        scored=scored,
    )
