"""What MER2025 and MER2026 share: one folder a year, with the media, the subtitles and a CSV a task."""

from typing import Any

from data_prep.labels import Labels
from data_prep.places import MediaFolder
from data_prep.reader import Reader
from data_prep.tables import TextTable

MER2025, MER2026 = "mer2025-dataset", "mer2026-dataset"


def challenge(name: str, title: str, folder: str, labels: Labels, **about: Any) -> Reader:
    """A reader for one CSV of a year's folder; `about` are further fields of the reader."""
    return Reader(
        name=name,
        title=title,
        labels=labels,
        video=MediaFolder(f"{folder}/video", (".mp4",)),
        audio=MediaFolder(f"{folder}/audio", (".wav",)),
        subtitles=TextTable(f"{folder}/subtitle_chieng.csv", "english"),
        **about,
    )
