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
import signal
from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from pathlib import Path

from data_prep.clip import CorpusError
from data_prep.micro import card
from data_prep.micro.cues import CHANNELS
from data_prep.micro.plan import ClipPlan, draw_plan
from data_prep.micro.reasons import GENERATORS
from data_prep.micro.render import media_paths, render_batch
from data_prep.micro.shards import SPLITS, write_micro_shards
from data_prep.micro.voice import engine_version, pick_engine
from data_prep.progress import progress
from data_prep.readers.mer_caption_plus import OPENSETS, REASONS, SUBTITLES
from recipe.mer_r1.files.whole import PART, write_whole

MANIFEST, CUES = "manifest.json", "cues.csv"
_BATCH = 8  # clips handed to a worker at a time


def build(
    out: Path,
    *,
    clips: int,
    test_clips: int,
    seed: int,
    sft: int,
    voice: str,
    workers: int,
    generator: int = 2,
    base_clips: int = 0,
    reasons: str | None = None,
) -> dict:
    """Make (or complete) the corpus in `out`; returns its manifest, with "made" the number of clips rendered now.

    `voice` "auto" keeps the engine that the corpus in `out` was begun with; `reasons` None is the generator's first
    annotator. Another `sft`, or a folder that was moved, only rewrites the shards. Raises CorpusError for arguments
    that do not fit together, and when `out` holds another corpus or something else.
    """
    annotators = GENERATORS[generator]
    reasons = reasons or next(iter(annotators))
    _check_arguments(clips, sft, generator, base_clips, reasons)
    previous = _previous(out)
    engine = pick_engine(previous.get("arguments", {}).get("voice", voice) if voice == "auto" else voice)
    chosen = {"clips": clips, "test_clips": test_clips, "seed": seed, "voice": engine}
    identity = _identity(
        generator, chosen if generator == 1 else {**chosen, "base_clips": base_clips, "reasons": reasons}
    )
    place = {"sft": sft, "folder": str(out.absolute())}
    sizes = {"train": clips, "test": test_clips} | ({"base": base_clips} if generator == 2 else {})
    plans = {
        split: [draw_plan(seed, split, i, annotators[reasons]) for i in range(size)] for split, size in sizes.items()
    }
    missing = [(out / split, plan) for split, each in plans.items() for plan in each if not _present(out / split, plan)]
    if previous:
        _check_same(out, previous, identity, rendering=bool(missing))
        identity |= {key: previous[key] for key in identity if key in previous}
    if _finished(out, previous, place, plans) and not missing:
        return {**previous, "made": 0}
    _begin(out, {**identity, **place, "complete": False})
    _render_all(missing, engine, workers)
    for split, each in plans.items():
        _write_tables(out / split, each, described=generator == 2)
    figures = card.measure(plans)
    write_whole(out / "README.md", card.text(identity, figures).encode())
    rows = write_micro_shards(out, plans, generator=generator, sft=sft, seed=seed)
    hashes = {split: _hash(out / split) for split in plans}
    manifest = {**identity, **place, "complete": True, "rows": rows, "figures": figures, "sha256": hashes}
    write_whole(out / MANIFEST, _dump(manifest))
    return {**manifest, "made": len(missing)}


def _check_arguments(clips: int, sft: int, generator: int, base_clips: int, reasons: str) -> None:
    """Raise CorpusError for arguments that do not fit together."""
    if not 0 <= sft <= clips:
        raise CorpusError(f"--sft {sft}: must be between 0 and --clips {clips}")
    if generator == 1 and base_clips:
        raise CorpusError(f"--base-clips {base_clips}: generator 1 has no base clips; use --generator 2")
    if generator == 2 and base_clips < 1:
        raise CorpusError(f"--base-clips {base_clips}: generator 2 needs at least 1 base clip")
    if reasons not in GENERATORS[generator]:
        raise CorpusError(f"--reasons {reasons}: generator {generator} has {', '.join(GENERATORS[generator])}")


def _identity(generator: int, arguments: dict) -> dict:
    """Everything that decides the bytes of the clips and tables."""
    return {
        "corpus": "MER-Micro (made, not recorded)",
        "generator": generator,
        "arguments": arguments,
        "voice": engine_version(arguments["voice"]),
        "versions": {name: version(name) for name in ("av", "numpy", "pillow")},
    }


def _previous(out: Path) -> dict:
    """The manifest in `out`, {} for a new folder. Raises CorpusError when the folder holds something else."""
    path = out / MANIFEST
    if not path.exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise CorpusError(f"{out}: not empty and not a MER-Micro corpus (no {MANIFEST}); choose another --out")
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorpusError(f"{path}: not JSON ({error}); remove the folder or choose another --out") from error


def _check_same(out: Path, previous: dict, identity: dict, *, rendering: bool) -> None:
    """Raise CorpusError where `previous` is of another corpus; versions matter only where clips are to be made."""
    keys = tuple(identity) if rendering else ("corpus", "generator", "arguments")
    for key in keys:
        old, new = previous.get(key), identity[key]
        if isinstance(old, dict) and isinstance(new, dict):
            changed = [f"{name} {old.get(name)} (now {new[name]})" for name in new if old.get(name) != new[name]]
        else:
            changed = [f"{key} {old!r} (now {new!r})"] if old != new else []
        if changed:
            raise CorpusError(
                f"{out}: contains a corpus made with {', '.join(changed)}; remove the folder or choose another --out"
            )


def _finished(out: Path, previous: dict, place: dict, splits: Iterable[str]) -> bool:
    """Whether all but the media is there and up to date."""
    if not previous.get("complete") or any(previous.get(key) != value for key, value in place.items()):
        return False
    files = [out / "shards" / f"{shard}.parquet" for shard in SPLITS[previous["generator"]]]
    files += [out / split / table for split in splits for table in (SUBTITLES, OPENSETS, REASONS, CUES)]
    return all(file.is_file() for file in (*files, out / "README.md"))


def _begin(out: Path, manifest: dict) -> None:
    """Lay the unfinished manifest and clear what an interrupted run left half written."""
    out.mkdir(parents=True, exist_ok=True)
    for part in out.rglob(f"*{PART}"):
        part.unlink()
    write_whole(out / MANIFEST, _dump(manifest))


def _present(folder: Path, plan: ClipPlan) -> bool:
    return all(path.is_file() for path in media_paths(folder, plan.name))


def _render_all(missing: list[tuple[Path, ClipPlan]], voice: str, workers: int) -> None:
    """Render in fresh processes: forks for the speech are then made from a small process without threads."""
    if not missing:
        return
    batches = [missing[i : i + _BATCH] for i in range(0, len(missing), _BATCH)]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_leave_interrupts_to_parent) as pool:
        jobs = [pool.submit(render_batch, batch, voice) for batch in batches]
        try:
            _follow(jobs, len(missing))
        except BrokenProcessPool as error:
            raise CorpusError(
                "a worker process died (out of memory?); run the same command again to continue"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _follow(jobs: list[Future[int]], total: int) -> None:
    """Show progress until all jobs are done; raises what a job raised."""
    with progress("MER-Micro clips", total) as advance:
        for job in as_completed(jobs):
            advance(job.result())


def _write_tables(folder: Path, plans: list[ClipPlan], *, described: bool) -> None:
    """The CSVs of a split; with `described`, cues.csv says what the reason makes of each cue as well."""
    columns = [f"reason_{channel}" for channel in CHANNELS] if described else []
    tables = {
        SUBTITLES: [("name", "chinese", "english"), *((p.name, "", p.subtitle) for p in plans)],
        OPENSETS: [("name", "openset"), *((p.name, f"[{', '.join(p.labels)}]") for p in plans)],
        REASONS: [("name", "reason"), *((p.name, p.reason) for p in plans)],
        CUES: [
            ("name", "scenario", *CHANNELS, *columns),
            *((p.name, p.scenario, *p.cues.values(), *(p.described.values() if described else ())) for p in plans),
        ],
    }
    for name, rows in tables.items():
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(rows)
        write_whole(folder / name, buffer.getvalue().encode())


def _dump(value: dict) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _hash(folder: Path) -> str:
    """sha256 over the names and contents of the folder's files, in sorted order."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(folder)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
