"""Making MER-Micro: render clips in parallel, write the CSVs, the card, the manifest and the shards.

Resumable: a clip's files appear by rename, so what exists is whole and is not made again. A finished corpus with the
same arguments is left alone. The number of workers changes no byte.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import multiprocessing
import os
import random
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from data_prep.corpus import OPENSETS, REASONS, SUBTITLES, CorpusError
from data_prep.media import encode_mp4, encode_wav, pcm16
from data_prep.micro import card
from data_prep.micro.cues import CHANNELS
from data_prep.micro.face import Look, draw_face
from data_prep.micro.plan import ClipPlan, draw_plan
from data_prep.micro.shards import SPLITS, write_micro_shards
from data_prep.micro.voice import RATE, engine_version, pick_engine, speak

GENERATOR = 1
"""Raise it when a change of the generator changes bytes."""
FPS = 2
SECONDS = 2.0  # 4 frames: two temporal patches of Qwen2.5-Omni, so 8 tokens at 56 × 56
MANIFEST, CUES = "manifest.json", "cues.csv"
_BATCH = 8  # clips handed to a worker at a time


@dataclass(frozen=True, slots=True)
class Request:
    """What determines the corpus."""

    clips: int
    test_clips: int
    seed: int
    sft: int
    voice: str
    """Resolved engine: "espeak" or "tones"."""

    def plans(self) -> dict[str, list[ClipPlan]]:
        """The plans of each split."""
        counts = {"train": self.clips, "test": self.test_clips}
        return {split: [draw_plan(self.seed, split, i) for i in range(n)] for split, n in counts.items()}


def build(out: Path, *, clips: int, test_clips: int, seed: int, sft: int, voice: str, workers: int) -> dict:
    """Make (or complete) the corpus in `out`; returns its manifest, with "made" the number of clips rendered now.

    Raises CorpusError when `out` holds another corpus or something else.
    """
    if not 0 <= sft <= clips:
        raise CorpusError(f"--sft {sft}: must lie between 0 and --clips {clips}")
    request = Request(clips, test_clips, seed, sft, pick_engine(voice))
    identity = _identity(request)
    previous = _previous(out, identity)
    plans = request.plans()
    missing = [(out / split, plan) for split, each in plans.items() for plan in each if not _present(out / split, plan)]
    if previous.get("complete") and not missing and _shards_present(out):
        return {**previous, "made": 0}
    out.mkdir(parents=True, exist_ok=True)
    _write(out / MANIFEST, _dump({**identity, "complete": False}))
    _render_all(missing, request.voice, workers)
    for split, each in plans.items():
        _write_tables(out / split, each)
    figures = card.measure(plans)
    _write(out / "README.md", card.text(identity, figures).encode())
    rows = write_micro_shards(out, plans["train"], sft=sft, seed=seed)
    manifest = {**identity, "complete": True, "rows": rows, "figures": figures, "sha256": _hashes(out, plans)}
    _write(out / MANIFEST, _dump(manifest))
    return {**manifest, "made": len(missing)}


def _identity(request: Request) -> dict:
    """Everything that decides the bytes."""
    return {
        "corpus": "MER-Micro (made, not recorded)",
        "generator": GENERATOR,
        "arguments": asdict(request),
        "voice": engine_version(request.voice),
        "versions": {name: version(name) for name in ("av", "numpy", "pillow", "pyarrow")},
    }


def _previous(out: Path, identity: dict) -> dict:
    """The manifest in `out`, {} for a new folder. Raises CorpusError when it is of another corpus."""
    path = out / MANIFEST
    if not path.exists():
        if out.is_dir() and any(out.iterdir()):
            raise CorpusError(f"{out}: not empty and no MER-Micro corpus (no {MANIFEST}); choose another --out")
        return {}
    try:
        previous = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise CorpusError(f"{path}: not JSON ({error}); remove the folder or choose another --out") from error
    for key, value in identity.items():
        if previous.get(key) != value:
            raise CorpusError(
                f"{out}: holds a corpus with {key} = {previous.get(key)}, asked for {value}; "
                "remove the folder or choose another --out"
            )
    return previous


def _media(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / "video" / f"{name}.mp4", folder / "audio" / f"{name}.wav"


def _present(folder: Path, plan: ClipPlan) -> bool:
    return all(path.is_file() for path in _media(folder, plan.name))


def _shards_present(out: Path) -> bool:
    return all((out / "shards" / f"{split}.parquet").is_file() for split in SPLITS)


def render(plan: ClipPlan, voice: str) -> tuple[bytes, bytes]:
    """The clip's mp4 and wav files."""
    rng = random.Random(plan.look_seed)
    look = Look.draw(rng)
    sound = speak(plan.subtitle, plan.cues["voice"], rng, voice, SECONDS)
    frames = [np.asarray(draw_face(plan.cues["face"], opening, look)) for opening in _openings(sound)]
    return encode_mp4(frames, FPS, sound, RATE), encode_wav(pcm16(sound), RATE)


def _openings(sound: np.ndarray) -> list[float]:
    """How far the mouth is open in each frame, in [0, 1]: the loudness at that moment beside the clip's loudest."""
    count = round(SECONDS * FPS)
    window = RATE // 10
    loudness = []
    for frame in range(count):
        middle = (frame + 0.5) / FPS * RATE
        piece = sound[int(middle - window / 2) : int(middle + window / 2)]
        loudness.append(float(np.sqrt(np.mean(piece**2))))
    top = max(loudness)
    return [round(each / top, 3) if top > 0 else 0.0 for each in loudness]


def _render_batch(batch: list[tuple[Path, ClipPlan]], voice: str) -> int:
    for folder, plan in batch:
        for path, data in zip(_media(folder, plan.name), render(plan, voice), strict=True):
            _write(path, data)
    return len(batch)


def _render_all(missing: list[tuple[Path, ClipPlan]], voice: str, workers: int) -> None:
    """Render in fresh processes: forks for the speech are then made from a process without threads."""
    if not missing:
        return
    batches = [missing[i : i + _BATCH] for i in range(0, len(missing), _BATCH)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=workers, mp_context=context) as pool:
        jobs = [pool.submit(_render_batch, batch, voice) for batch in batches]
        try:
            for done in _progress(as_completed(jobs), len(missing)):
                del done
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _progress(jobs: Iterable, total: int) -> Iterator[int]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task("MER-Micro clips", total=total)
        for job in jobs:
            count = job.result()
            progress.advance(task, count)
            yield count


def _write_tables(folder: Path, plans: list[ClipPlan]) -> None:
    tables = {
        SUBTITLES: [("name", "chinese", "english"), *((p.name, "", p.subtitle) for p in plans)],
        OPENSETS: [("name", "openset"), *((p.name, f"[{', '.join(p.labels)}]") for p in plans)],
        REASONS: [("name", "reason"), *((p.name, p.reason) for p in plans)],
        CUES: [
            ("name", "scenario", *CHANNELS),
            *((p.name, p.scenario, *(p.cues[channel] for channel in CHANNELS)) for p in plans),
        ],
    }
    for name, rows in tables.items():
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(rows)
        _write(folder / name, buffer.getvalue().encode())


def _write(path: Path, data: bytes) -> None:
    """Write by rename: the file is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    os.replace(part, path)


def _dump(value: dict) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _hashes(out: Path, plans: dict[str, list[ClipPlan]]) -> dict[str, str]:
    """One sha256 a split over the names and contents of its files, in sorted order."""
    result = {}
    for split in plans:
        digest = hashlib.sha256()
        for path in sorted((out / split).rglob("*")):
            if path.is_file():
                digest.update(f"{path.relative_to(out / split)}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        result[split] = digest.hexdigest()
    return result
