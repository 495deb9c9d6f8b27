"""Command line of data_prep. Heavy imports wait until a command runs, so `--help` is quick."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from data_prep.cli_options import (
    CorpusOption,
    HeldOutOption,
    LinksOption,
    Missing,
    OddLabels,
    OddLabelsOption,
    OnBad,
    Part,
    Reasons,
    ReasonsOption,
    RootOption,
    SizeName,
    Voice,
)

app = typer.Typer(
    help="Convert emotion corpora to parquet shards for SFT, RL and evaluation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _number_or_all(text: str) -> str:
    """What --sft of `build` takes."""
    if text != "all" and not text.isdecimal():
        raise typer.BadParameter(f"{text!r} is neither a number of clips, 0 or more, nor 'all'")
    return text


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Faults of the input end the program with their message and exit code 2, not with a traceback."""
    from data_prep.clip import CorpusError
    from data_prep.micro.voice import VoiceError
    from recipe.mer_r1.method.wheel import WheelError

    try:
        yield
    except (CorpusError, VoiceError, WheelError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as error:
        typer.echo("interrupted; run the same command again to continue", err=True)
        raise typer.Exit(130) from error


@app.command()
def micro(
    out: Annotated[Path, typer.Option(help="Folder to make the corpus in: OUT/train, OUT/test, OUT/shards.")],
    generator: Annotated[int, typer.Option(min=1, max=2, help="1: reasons are perfect and end in the labels.")] = 2,
    size: Annotated[
        SizeName, typer.Option(help="demo: 1000 training, 320 test and 600 base clips; benchmark: 4000, 800, 2400.")
    ] = SizeName.demo,
    clips: Annotated[int | None, typer.Option(min=1, help="Training clips, SFT and RL; default: from --size.")] = None,
    test_clips: Annotated[int | None, typer.Option(min=1, help="Test clips; default: from --size.")] = None,
    base_clips: Annotated[
        int | None, typer.Option(min=0, help="Clips for the base stage alone (generator 2); default: from --size.")
    ] = None,
    reasons: Annotated[
        Reasons | None, typer.Option(help="Generator 2: imperfect (default) misses and misreads cues.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    sft: Annotated[
        int | None,
        typer.Option(min=0, help="Training clips for SFT (default: 3/5; generator 1: 3/4); RL gets the rest."),
    ] = None,
    voice: Annotated[Voice, typer.Option(help="auto: espeak-ng if it is installed, else tones.")] = Voice.auto,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes; does not change the output.")] = 2,
) -> None:
    """Make MER-Micro: drawn faces that talk, synthetic speech, labels and reasons.

    An interrupted run resumes. If the corpus is complete, the command does nothing.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with _plain_errors():
        from data_prep.micro.build import build
        from data_prep.micro.sizes import SFT_SHARE, SIZES

        chosen = SIZES[generator][size.value]
        clips, test_clips = clips or chosen.clips, test_clips or chosen.test_clips
        manifest = build(
            out,
            generator=generator,
            clips=clips,
            test_clips=test_clips,
            base_clips=chosen.base_clips if base_clips is None else base_clips,
            reasons=reasons and reasons.value,
            seed=seed,
            sft=round(clips * SFT_SHARE[generator]) if sft is None else sft,
            voice=voice.value,
            workers=workers,
        )
    rows = ", ".join(f"{split} {count}" for split, count in manifest["rows"].items())
    made = f"{manifest['made']} clips made" if manifest["made"] else "no clips to make"
    typer.echo(f"{out}: {made}; voice: {manifest['voice']}; rows: {rows}")


@app.command()
def build(
    corpus: CorpusOption,
    root: RootOption,
    out: Annotated[Path, typer.Option(help="Folder for the shards, their manifest and card.")],
    sft: Annotated[
        str,
        typer.Option(
            callback=_number_or_all,
            metavar="N|all",
            help="Number of random clips with a reason for SFT, or all; the rest is for RL.",
        ),
    ] = "0",
    seed: Annotated[int, typer.Option(help="Seed of the random choice of SFT clips.")] = 0,
    embed: Annotated[
        bool, typer.Option("--embed", help="Store the clips inside the shards; default: relative paths.")
    ] = False,
    on_bad: Annotated[
        OnBad, typer.Option(help="skip: leave out bad clips and list them in left_out.jsonl.")
    ] = OnBad.error,
    quarantine: Annotated[
        Path | None, typer.Option(help="List written by `check --quarantine`; its clips are left out.")
    ] = None,
    held_out: HeldOutOption = None,
    reasons: ReasonsOption = None,
    train: Annotated[
        bool, typer.Option("--train", help="Make sft and rl of human labels (mer2026_human, mer2025_ov).")
    ] = False,
    odd_labels: OddLabelsOption = OddLabels.refuse,
    missing: Annotated[
        Missing,
        typer.Option(help="Clips without a picture file or a sound file: refuse them, or keep the rest."),
    ] = Missing.refuse,
    without: Annotated[
        list[Part] | None,
        typer.Option(help="Write rows without their picture, sound or subtitle; can be repeated."),
    ] = None,
    wheels: Annotated[
        Path | None, typer.Option(help="Official wheels: a folder or wheel_mapping.npz; default: the built-in table.")
    ] = None,
    links_to: LinksOption = None,
    data_source: Annotated[str | None, typer.Option(help="Column data_source; default: the corpus's name.")] = None,
) -> None:
    """Turn a corpus into parquet shards with verl's columns."""
    from data_prep import build as builder
    from data_prep import card, readers
    from data_prep.places import Root
    from recipe.mer_r1.method.wheel import load_wheels

    with _plain_errors():
        options = builder.Options(
            sft if sft == "all" else int(sft), seed, embed, on_bad.value, odd_labels.value, data_source, quarantine,
            tuple(held_out or ()), reasons, train, load_wheels(wheels), missing=missing.value,
            without=tuple(dict.fromkeys(part.value for part in without or ())),
            command=shlex.join(["python", "-m", "data_prep", *sys.argv[1:]]),
        )  # fmt: skip
        reader = readers.get(corpus.value)
        if note := builder.without_sft(reader.for_training() if train else reader, options):
            typer.echo(note, err=True)
        manifest = builder.build(reader, Root(root, tuple(links_to or ())), out, options, _progress)
    typer.echo(f"{out}: " + ", ".join(f"{split} {count}" for split, count in manifest["rows"].items()))
    if manifest["partial"]:
        parts = ", ".join(f"{count} without {part}" for part, count in manifest["partial"].items())
        typer.echo(f"of these rows, {parts}")
    if manifest["left_out"]:
        reasons = ", ".join(f"{count} {kind}" for kind, count in manifest["left_out_by_reason"].items())
        typer.echo(f"left out: {manifest['left_out']} of {manifest['read']} ({reasons}); see {out / 'left_out.jsonl'}")
    for note in card.notes(reader, manifest):
        typer.echo(f"note: {note}")
    if manifest["published"] not in (None, manifest["read"]):
        typer.echo(f"note: found {manifest['read']} clips; the published corpus has {manifest['published']}")


def _progress(items: Iterable[Any], what: str) -> Iterator[Any]:
    """A counter on a terminal; nothing where output goes to a file."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description} {task.completed:,}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield from progress.track(items, total=None, description=what)


@app.command()
def probe(
    corpus: Annotated[Path, typer.Option(help="Folder that `micro` made; it holds train/ and test/.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file too.")] = None,
) -> None:
    """Train probes on text, audio and video, alone and together, and score them on MER-Micro's test clips."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if find_spec("sklearn") is None:
        typer.echo('error: probes need scikit-learn: pip install -e ".[eval]"', err=True)
        raise typer.Exit(2)
    with _plain_errors():
        from data_prep.micro.probes import probe as run_probes
        from data_prep.micro.probes import table
        from recipe.mer_r1.files.whole import write_whole

        result = run_probes(corpus)
        if json_file:
            write_whole(json_file, (json.dumps(result, indent=1, ensure_ascii=False) + "\n").encode())
    typer.echo("\n".join(table(result)))


@app.command()
def check(
    corpus: CorpusOption,
    root: RootOption,
    out: Annotated[Path, typer.Option(help="Folder for report.json and the cache of decoded files.")],
    links_to: LinksOption = None,
    held_out: HeldOutOption = None,
    model: Annotated[Path | None, typer.Option(help="Model folder whose processor counts prompt tokens.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="Preset name or YAML file with the media settings and limits.")
    ] = None,
    max_prompt_length: Annotated[
        int | None, typer.Option(min=1, help="Limit in tokens; default: the preset's limit, or none.")
    ] = None,
    max_seconds: Annotated[
        float | None, typer.Option(min=0, help="Limit of a clip's length; default: the preset's limit, or none.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Number of processes; default: one per core.")] = None,
    quarantine: Annotated[
        Path | None, typer.Option(help="Write the list of dropped clips here, for build --quarantine.")
    ] = None,
    reasons: ReasonsOption = None,
    train: Annotated[bool, typer.Option("--train", help="Check as `build --train` reads it.")] = False,
    odd_labels: OddLabelsOption = OddLabels.refuse,
) -> None:
    """Decode every clip of a corpus completely and report the clips that would be dropped.

    The exit code is 1 if a clip would be dropped. An interrupted check resumes; unchanged files are not decoded again.
    """
    from data_prep.check import command
    from data_prep.check.settings import read_preset
    from data_prep.check.verdicts import Limits

    if max_prompt_length is not None and model is None:
        raise typer.BadParameter("needs --model, to count the tokens", param_hint="--max-prompt-length")
    with _plain_errors():
        media, prompt_limit = read_preset(preset)
        limits = Limits(
            media.get("sampling_rate", 16_000),
            max_seconds or media.get("max_seconds"),
            max_prompt_length or (prompt_limit if model else None),
        )
        dropped = command.check(
            corpus.value, root, tuple(links_to or ()), out, limits, media=media,
            held_out=tuple(held_out or ()), model=model, workers=workers, quarantine=quarantine,
            odd_labels=odd_labels.value, reasons=reasons, train=train,
        )  # fmt: skip
    raise typer.Exit(1 if dropped else 0)
