"""MME-Emotion: 6,500 questions in eight tasks; names are paths such as MAFW/video/03419.mp4."""

from data_prep.labels import QuestionFiles
from data_prep.places import MediaFolder
from data_prep.reader import Reader

TASKS = ("ER-Lab", "ER-Wild", "Noise-ER", "FG-ER", "ML-ER", "SA", "FG-SA", "IR")

READER = Reader(
    name="mme_emotion",
    title="MME-Emotion",
    labels=QuestionFiles(TASKS),
    video=MediaFolder(".", ("",)),
    published=6500,
    names_are_paths=True,
)
