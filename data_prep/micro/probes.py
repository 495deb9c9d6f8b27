"""What one modality alone can tell: probes trained on a finished corpus, scored on its test split.

A probe sees features of some modalities and guesses the set of emotions. Together with the best constant guess and the
card's exact bounds they show that no single modality is enough.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from itertools import combinations
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data_prep.clip import Clip, CorpusError, listing
from data_prep.micro.cues import CHANNELS, EMOTION_OF, EMOTIONS
from data_prep.micro.features import MEDIA_FEATURES
from data_prep.micro.guess import FOLDS, best_constant, guess_sets, interval, scores
from data_prep.places import Root
from data_prep.readers.micro import READER, TEST

CUES_IN: dict[str, tuple[str, ...]] = {
    # The sentence is spoken, so the sound holds what is said as well as how.
    "text": ("words",),
    "audio": ("voice", "words"),
    "video": ("face",),
}
MODALITIES = tuple(CUES_IN)
SPLITS = ("train", "test")
_COMPONENTS = 200  # principal components kept of each modality
_WORDS = (1, 2)  # the bag holds words and pairs of neighbours


@dataclass(frozen=True, slots=True)
class Split:
    """The clips of one split and their true sets, (clips, emotions)."""

    clips: list[Clip]
    truth: np.ndarray


def probe(corpus: Path) -> dict:
    """Train and score all probes of the corpus in `corpus` (the folder that holds train/ and test/).

    Returns `corpus`, what its manifest says of it, `clips`, the number a split, `versions`, and `probes`: one entry for
    the best constant guess ("nothing"), each modality, each pair and all three, with `precision`, `recall`, `f1`, its
    standard error `se` and interval `ci95`, the exact bound `best_f1` for who knows the cues that these modalities
    hold, `emotions_named` a clip, `train_f1` out of fold, and `wheels`: the same scores on the project's built-in
    wheels. Scores lie in 0..1 and are the same for the same corpus.

    Raises CorpusError where the folder holds no such corpus, a split or file is missing, or a label is not of
    MER-Micro's table.
    """
    manifest = _manifest(corpus)
    bounds = manifest["figures"]["best_f1_knowing"]
    splits = {name: _read(corpus, name) for name in SPLITS}
    train, test = splits["train"], splits["test"]
    if len(train.clips) < FOLDS:
        raise CorpusError(f"{corpus / 'train'}: {len(train.clips)} clips; probes need at least {FOLDS}")
    subsets = [chosen for size in (1, 2, 3) for chosen in combinations(MODALITIES, size)]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        reading = progress.add_task("reading clips", total=len(MEDIA_FEATURES) * (len(train.clips) + len(test.clips)))
        features = _features(splits, lambda: progress.advance(reading))
        training = progress.add_task("training probes", total=len(subsets))
        constant = np.tile(best_constant(train.truth), (len(test.clips), 1))
        found = [{"knows": "nothing", "best_f1": bounds["nothing"], **_report(constant, test)}]
        for chosen in subsets:
            seen = {name: np.concatenate([features[each][name] for each in chosen], axis=1) for name in SPLITS}
            guesses = guess_sets(seen["train"], train.truth, seen["test"])
            row = {"knows": "+".join(chosen), "best_f1": bounds[_cues(chosen)], **_report(guesses.sets, test)}
            found.append({**row, "train_f1": round(guesses.train_f1, 3), "strength": guesses.strength})
            progress.advance(training)
    return {
        "corpus": {key: manifest.get(key) for key in ("arguments", "generator", "voice", "sha256")},
        "clips": {name: len(split.clips) for name, split in splits.items()},
        "versions": {name: version(name) for name in ("av", "numpy", "scikit-learn")},
        "probes": found,
    }


def table(result: dict) -> list[str]:
    """What `probe` returned as rows of a Markdown table."""
    lines = [
        "| knows | P | R | F1 | ± | 95 % | best possible F1 | emotions named | on the wheels: P | R | F1 |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["probes"]:
        own = [f"{row[key]:.3f}" for key in ("precision", "recall", "f1", "se")]
        span = "–".join(f"{edge:.3f}" for edge in row["ci95"])
        wheels = [f"{row['wheels'][key]:.3f}" for key in ("precision", "recall", "f1")]
        cells = [row["knows"], *own, span, f"{row['best_f1']:.3f}", f"{row['emotions_named']:.2f}", *wheels]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _manifest(corpus: Path) -> dict:
    """The corpus's manifest; it holds the exact bounds, by what is known."""
    path = corpus / "manifest.json"
    if not path.is_file():
        raise CorpusError(f"{path}: missing; set --corpus to a folder that `python -m data_prep micro` made")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["complete"] and manifest["figures"]["best_f1_knowing"]:
            return manifest
    except (ValueError, KeyError, TypeError):
        pass
    raise CorpusError(f"{path}: not a complete MER-Micro corpus; run `python -m data_prep micro` again")


def _read(corpus: Path, name: str) -> Split:
    if not (corpus / name).is_dir():
        raise CorpusError(f"{corpus / name}: missing; probes need both splits, {' and '.join(SPLITS)}")
    clips = list((READER if name == "train" else TEST).clips(Root(corpus)))
    if faults := [fault for clip in clips for fault in clip.faults]:
        raise CorpusError(f"{corpus / name}: found {len(faults)} faults; make the corpus again\n{listing(faults)}")
    for clip in clips:
        if odd := [label for label in clip.labels if label not in EMOTION_OF]:
            raise CorpusError(f"{corpus / name}: clip {clip.name!r}: label {odd[0]!r} is not in MER-Micro's table")
    sets = [{EMOTION_OF[label] for label in clip.labels} for clip in clips]
    return Split(clips, np.array([[emotion in each for emotion in EMOTIONS] for each in sets]))


def _features(splits: dict[str, Split], advance: Callable[[], None]) -> dict[str, dict[str, np.ndarray]]:
    """By modality and split: (clips, components), fitted on the training clips alone; `advance` is called a file."""
    clips = {name: split.clips for name, split in splits.items()}
    raw = {"text": _bags({name: [clip.subtitle for clip in each] for name, each in clips.items()})}
    for modality, read in MEDIA_FEATURES.items():
        raw[modality] = {}
        for name, each in clips.items():
            rows = []
            for clip in each:
                rows.append(read(clip))
                advance()
            raw[modality][name] = np.stack(rows)
    return {modality: _components(raw[modality]) for modality in MODALITIES}


def _bags(texts: dict[str, list[str]]) -> dict[str, np.ndarray]:
    """Which words and pairs of neighbours a subtitle holds; the vocabulary is that of the training clips."""
    bag = CountVectorizer(binary=True, ngram_range=_WORDS, token_pattern=r"\w+", dtype=np.float32)
    bag.fit(texts["train"])
    return {name: bag.transform(each).toarray() for name, each in texts.items()}


def _components(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Standardised, then principal components with a mean square of 1, so that modalities can stand side by side."""
    kept = min(_COMPONENTS, *rows["train"].shape)
    reduce = make_pipeline(StandardScaler(), PCA(kept, random_state=0)).fit(rows["train"])
    found = {name: reduce.transform(each) for name, each in rows.items()}
    scale = max(float(found["train"].std()), 1e-9)
    return {name: each / scale for name, each in found.items()}


def _cues(chosen: tuple[str, ...]) -> str:
    """The cues that these modalities hold, as the card names them."""
    held = {cue for modality in chosen for cue in CUES_IN[modality]}
    return "+".join(channel for channel in CHANNELS if channel in held)


def _report(guess: np.ndarray, test: Split) -> dict:
    """Mean scores of guessed sets on the test clips, rounded to three places."""
    each = scores(guess, test.truth)
    error, edges = interval(each[:, 2])
    precision, recall, f1 = each.mean(axis=0)
    own = {"precision": precision, "recall": recall, "f1": f1, "se": error}
    return {
        **{key: round(float(value), 3) for key, value in own.items()},
        "ci95": [round(edge, 3) for edge in edges],
        "emotions_named": round(float(guess.sum(axis=1).mean()), 2),
        "wheels": _wheel_scores(guess, test),
    }


def _wheel_scores(guess: np.ndarray, test: Split) -> dict[str, float]:
    """The same on the built-in wheels, an emotion answered by its own name: what `main_eval run` reports."""
    from recipe.mer_r1.method.reward import sample_scores
    from recipe.mer_r1.method.wheel import EmotionWheels

    wheels = EmotionWheels.builtin()
    names = np.array(EMOTIONS)
    found = [sample_scores(clip.labels, names[row], wheels) for clip, row in zip(test.clips, guess, strict=True)]
    return {
        key: round(float(np.mean([getattr(score, key) for score in found if score])), 3)
        for key in ("precision", "recall", "f1")
    }
