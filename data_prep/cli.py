"""Command line of data_prep. Heavy imports wait until a command runs, so `--help` is quick."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Corpora to parquet shards for SFT, RL and evaluation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Voice(StrEnum):
    """Speech engine of MER-Micro."""

    auto = "auto"
    espeak = "espeak"
    tones = "tones"


class SizeName(StrEnum):
    """Named size of MER-Micro."""

    demo = "demo"
    benchmark = "benchmark"


class OnBad(StrEnum):
    """What to do with a bad row."""

    error = "error"
    skip = "skip"


class Check(StrEnum):
    """How closely media are looked at."""

    files = "files"
    decode = "decode"


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Faults of the input end the program with their message and exit code 2, not with a traceback."""
    from data_prep.corpus import CorpusError
    from data_prep.micro.voice import VoiceError

    try:
        yield
    except (CorpusError, VoiceError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as error:
        typer.echo("interrupted; the same command goes on where this one stopped", err=True)
        raise typer.Exit(130) from error


@app.command()
def micro(
    out: Annotated[Path, typer.Option(help="Folder to make the corpus in: OUT/train, OUT/test, OUT/shards.")],
    size: Annotated[SizeName, typer.Option(help="demo: 1600 and 160 clips; benchmark: 4000 and 800.")] = SizeName.demo,
    clips: Annotated[int | None, typer.Option(min=1, help="Training clips, SFT and RL [default: by --size].")] = None,
    test_clips: Annotated[int | None, typer.Option(min=1, help="Test clips [default: by --size].")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    sft: Annotated[int | None, typer.Option(min=0, help="Clips for SFT, the rest is for RL [default: 3/4].")] = None,
    voice: Annotated[Voice, typer.Option(help="auto: espeak-ng where installed, else tones.")] = Voice.auto,
    workers: Annotated[int, typer.Option(min=1, help="Processes; changes no byte.")] = 2,
) -> None:
    """Make MER-Micro: drawn faces that talk, synthetic speech, labels and reasons. Resumes; twice does nothing."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with _plain_errors():
        from data_prep.micro.build import build
        from data_prep.micro.sizes import SIZES

        chosen = SIZES[size.value]
        clips, test_clips = clips or chosen.clips, test_clips or chosen.test_clips
        manifest = build(
            out,
            clips=clips,
            test_clips=test_clips,
            seed=seed,
            sft=clips * 3 // 4 if sft is None else sft,
            voice=voice.value,
            workers=workers,
        )
    rows = ", ".join(f"{split} {count}" for split, count in manifest["rows"].items())
    made = f"{manifest['made']} clips made" if manifest["made"] else "no clips to make"
    typer.echo(f"{out}: {made}; voice: {manifest['voice']}; rows: {rows}")


@app.command()
def shards(
    corpus: Annotated[Path, typer.Option(help="Training corpus in MER2025's layout.")],
    out: Annotated[Path, typer.Option(help="Folder for sft.parquet, rl.parquet, test.parquet and left_out.json.")],
    sft: Annotated[int, typer.Option(min=0, help="Random clips for SFT, the rest is for RL (paper: 5000).")],
    test_corpus: Annotated[Path | None, typer.Option(help="Test corpus in the same layout.")] = None,
    seed: Annotated[int, typer.Option(help="Decides which clips are for SFT.")] = 0,
    data_source: Annotated[str, typer.Option(help="Value of the column data_source.")] = "mer2025",
    on_bad: Annotated[
        OnBad, typer.Option(help="skip: leave bad rows out and list them in left_out.json.")
    ] = OnBad.error,
    check: Annotated[Check, typer.Option(help="decode: decode every clip to its end.")] = Check.files,
) -> None:
    """Turn a corpus folder into parquet shards with verl's columns."""
    with _plain_errors():
        from data_prep.shards import write_shards

        counts = write_shards(
            corpus,
            out,
            sft=sft,
            seed=seed,
            test_corpus=test_corpus,
            data_source=data_source,
            on_bad=on_bad.value,
            check=check.value,
        )
    typer.echo(f"{out}: " + ", ".join(f"{split} {count}" for split, count in counts.items()))


@app.command()
def probe(
    corpus: Annotated[Path, typer.Option(help="Folder that `micro` made; it holds train/ and test/.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file too.")] = None,
) -> None:
    """Train probes on text, audio and video alone and together, score them on MER-Micro's test clips."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if find_spec("sklearn") is None:
        typer.echo('error: probes need scikit-learn: pip install -e ".[eval]"', err=True)
        raise typer.Exit(2)
    with _plain_errors():
        from data_prep.files import write_whole
        from data_prep.micro.probes import probe as run_probes
        from data_prep.micro.probes import table

        result = run_probes(corpus)
        if json_file:
            write_whole(json_file, (json.dumps(result, indent=1, ensure_ascii=False) + "\n").encode())
    typer.echo("\n".join(table(result)))
