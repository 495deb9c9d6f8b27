"""Answer the clips of a shard without labels, and write a challenge's submission.

    python -m recipe.mer_r1.main_eval predict --model DIR --data candidates.parquet --out submission
    python -m recipe.mer_r1.main_eval predict --model DIR --data candidates.parquet --out submission --part 3/8
    python -m recipe.mer_r1.main_eval predict --merge --out submission

Clips are answered as by `main_eval run`, with one answer each: slow, unless --mode says fast. Each answer is written at
once: run the same command again to continue. --workers N shares the clips among N processes of this machine, each with
a GPU of its own. --part K/N answers the K-th of N equal parts, so that several machines with one file system share the
work; --merge joins the parts. The seed of an answer does not depend on the number of workers or parts. When every
candidate has exactly one answer, OUT gets NAME-openset.npz (filenames, fileitems), NAME.csv (name, openset) and
NAME.json (what made them), where NAME is the name of OUT.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from recipe.mer_r1.eval import records, run, submission
from recipe.mer_r1.eval.answer_modes import PREFIXES
from recipe.mer_r1.eval.clip_sets import load_clip_sets
from recipe.mer_r1.eval.fingerprints import weights_sha256
from recipe.mer_r1.eval.generate import Generation, load_preset, settings
from recipe.mer_r1.eval.judge.endpoint import positive
from recipe.mer_r1.eval.submission import IncompleteError
from recipe.mer_r1.files import exits
from recipe.mer_r1.files.provenance import git_state, versions
from recipe.mer_r1.method.answer import FORMS, split_list
from recipe.mer_r1.method.wheel import EmotionWheels
from recipe.mer_r1.run import hub, launch
from recipe.mer_r1.run.inputs import check_model_folder

_PARTS = "part-*-of-*"


def parser(prog_name: str) -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=prog_name, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = result.add_argument
    add(
        "--model",
        help="folder of a full-Omni model, as main_sft and main_ppo write it, or hf://OWNER/NAME; not with --merge",
    )
    add(
        "--data",
        metavar="SHARD",
        help="candidates.parquet of `data_prep build`, or hf://datasets/OWNER/NAME/PATH.parquet; "
        "--merge: default of the parts",
    )
    add("--media-root", type=Path, help="folder that the shard's relative paths start from; default: its own")
    add("--out", required=True, type=Path, help="folder for the answers and the submission")
    run.add_workers(result)
    add("--part", type=_part, default=(1, 1), metavar="K/N", help="answer the K-th of N parts of the shard")
    add("--merge", action="store_true", help="join the parts in OUT, and write the submission; loads no model")
    add("--mode", choices=(*PREFIXES,), default="slow", help="slow (default): think first; fast: answer at once")
    add("--form", choices=(*FORMS,), help="form of a response; default: as the model was trained")
    add("--names", type=Path, metavar="CSV", help="the organisers' list of candidates (column name), to check against")
    add("--fill", metavar="WORDS", help="answer of candidates whose clip failed or is not in the shard, '' for []")
    add("--temperature", type=run.temperature, default=0.0, help="0 to 2; 0 (default) is greedy")
    add("--max-tokens", type=positive, help="limit of a response; default: max_response_length of the preset")
    add("--retry-failed", action="store_true", help="answer failed clips again")
    add("--preset", default="tiny", help="conf/preset/NAME.yaml: media, vLLM and length settings")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help="change keys of the preset: media.fps=1 …")
    return result


def _part(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    number, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= count:
        raise argparse.ArgumentTypeError(f"{text!r}: write K/N with K from 1 to N, e.g. 3/8")
    return number, count


def app(arguments: Sequence[str], prog_name: str = "main_eval predict") -> None:
    """The subcommand. Exits with 2 where the input is at fault, with 1 where candidates have no answer."""
    chosen = parser(prog_name).parse_args(arguments)
    try:
        if chosen.data:
            chosen.data = _shard(chosen.data, chosen.names)
        merge(chosen) if chosen.merge else predict(chosen)
    except (ValueError, OSError) as error:
        print(f"{prog_name}: {error}", file=sys.stderr)
        raise SystemExit(exits.FAILED if isinstance(error, IncompleteError) else exits.INPUT) from error


def _shard(data: str, names: Path | None) -> Path:
    """The shard on this machine."""
    if data.startswith(hub.SCHEME) and names is None:
        print(f"note: {submission.LEFT_OUT} beside the shard is not brought from the hub; --names finds missing names")
    return Path(hub.local_file(data, "--data"))


def predict(arguments: argparse.Namespace) -> None:
    """Check everything, answer what is missing of the part, write the submission where the part is all."""
    if not (arguments.model and arguments.data):
        raise ValueError("--model and --data are needed; only --merge works without them")
    preset = load_preset(arguments.preset, arguments.set)
    arguments.model = hub.local_model(arguments.model, "--model")
    check_model_folder(arguments.model, "--model")
    launch.prepare_environment(preset.device, arguments.model)
    run.check_workers(arguments, preset)
    form = run.choose_form(arguments.model, arguments.form)
    (clips,) = load_clip_sets([arguments.data], arguments.media_root, preset.media.use_audio_in_video, None)
    names = [info["name"] for info in clips.rows["extra_info"]]
    wanted = _candidates(clips.shard, clips.corpus, names, arguments.names)
    if absent := submission.missing(wanted, names):
        print(f"note: not in the shard: {submission.shown(absent)}; without --fill there will be no submission")
    run.check_prompts(clips, form)
    number, count = arguments.part
    rows = part_rows(len(names), number, count)
    folder = arguments.out / f"part-{number}-of-{count}"
    _check_other_parts(arguments.out, count)
    wheels = EmotionWheels.builtin()
    chosen = settings(arguments, preset, wheels.identity, weights_sha256(Path(arguments.model)), clips, form)
    del chosen["wheels"]  # no answer depends on them, and there is nothing to score
    with records.alone(folder):
        records.claim(folder, chosen | {"mode": arguments.mode, "part": f"{number}/{count}"})
        given = [arguments.mode], arguments.temperature, preset.seed, wheels, 1, form, rows
        made = Generation(folder, clips, *given)
        if arguments.retry_failed:
            print(f"making {made.forget_failures()} failed answers again")
        print(f"candidates {rows.start + 1:,} to {rows.stop:,} of {len(names):,}, {arguments.mode}: {folder}")
        run.generate_missing(arguments, preset, form, [made], logs=folder)
        if count > 1:
            _say_failed(made)
    if count > 1:
        print(_next_step(arguments.out, count))
    else:
        _finish(arguments, [folder], names, wanted)


def _say_failed(made: Generation) -> None:
    failed = [line for _, lines in made.lines() for line in lines if "failed" in line]
    if names := [*dict.fromkeys(line["name"] for line in failed)]:
        print(
            f"{len(names)} clips failed: {submission.shown(names)} (the first: {failed[0]['failed']}). Fix them and "
            "run again with --retry-failed, or give --fill when you merge.",
            file=sys.stderr,
        )


def part_rows(total: int, number: int, count: int) -> range:
    """The rows of the number-th of `count` parts, which differ by one row at most.

    Raises:
        ValueError: there are more parts than rows.
    """
    rows = range(total * (number - 1) // count, total * number // count)
    if not rows:
        raise ValueError(f"--part {number}/{count}: the shard has {total} rows, too few for {count} parts")
    return rows


def merge(arguments: argparse.Namespace) -> None:
    """Join the parts in OUT. Raises IncompleteError where a part or an answer is missing."""
    folders, count = _parts(arguments.out)
    about = [_settings(folder) for folder in folders]
    _check_same(folders, about)
    if absent := sorted({*range(1, count + 1)} - {_number(folder) for folder in folders}):
        parts = ", ".join(f"{number}/{count}" for number in absent)
        raise IncompleteError(f"{arguments.out}: no answers of part {parts}; run `predict --part` for each of them")
    shard = arguments.data or Path(about[0]["shard"])
    names = _names(shard)
    if len(names) != about[0]["n_shard"]:
        raise ValueError(f"{shard}: has {len(names)} rows, but the parts are of {about[0]['n_shard']}; correct --data")
    _finish(arguments, folders, names, _candidates(shard, about[0]["corpus"], names, arguments.names))


def _names(shard: Path) -> list[str]:
    """The names of a shard's rows; clips are not looked at."""
    import pyarrow.parquet as pq

    if not shard.is_file():
        raise ValueError(f"{shard}: no such file; name the shard that the parts were made of with --data")
    return [info["name"] for info in pq.read_table(shard, columns=["extra_info"])["extra_info"].to_pylist()]


def _candidates(shard: Path, corpus: str, names: Sequence[str], listed: Path | None) -> list[str]:
    """All names that must be answered; says where the published list has another length."""
    from data_prep import readers

    wanted = submission.candidates(shard, names, listed)
    published = readers.get(corpus).published if corpus in readers.NAMES else None
    if published not in (None, len(wanted)):
        print(f"note: {len(wanted):,} candidates; the published list of {corpus} has {published:,}")
    return wanted


def _finish(
    arguments: argparse.Namespace, folders: Sequence[Path], names: Sequence[str], wanted: Sequence[str]
) -> None:
    """Collect the answers of all parts, check them, write the submission and say so."""
    about, lines = _settings(folders[0]), []
    with ExitStack() as held:
        for folder in folders:
            held.enter_context(records.alone(folder))
            found = [*records.read(folder / f"{about['mode']}.jsonl").values()]
            _check_whole(folder, found, names)
            lines += found
    done = submission.collect(lines, names, wanted, None if arguments.fill is None else split_list(arguments.fill))
    made = {key: value for key, value in about.items() if key != "part"}
    origin = {"git": git_state(), "versions": versions("mer-r1", "vllm", "transformers", "torch")}
    written = submission.write(arguments.out, done, {"settings": made, "parts": len(folders), **origin})
    words = sum(map(len, done.answers.values())) / len(done.answers)
    print(f"complete: {len(done.answers):,} candidates, each once; {words:.1f} words per answer on average")
    print(f"answers without a word: {len(done.empty):,}; filled in by --fill: {len(done.filled):,}")
    for path in written:
        print(f"  {path}")


def _check_whole(folder: Path, lines: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    """A part has an answer to each of its rows."""
    number, count = _number(folder), _count(folder)
    there = {line["index"] for line in lines}
    if missing := [names[index] for index in part_rows(len(names), number, count) if index not in there]:
        again = f"`predict --part {number}/{count}`" if count > 1 else "the same command"
        raise IncompleteError(
            f"{folder}: no answer to {len(missing)} of its candidates: {submission.shown(missing)}; run {again} again"
        )


def _settings(folder: Path) -> dict[str, Any]:
    return json.loads((folder / records.SETTINGS).read_text(encoding="utf-8"))


def _number(folder: Path) -> int:
    return int(folder.name.split("-")[1])


def _count(folder: Path) -> int:
    return int(folder.name.split("-")[3])


def _parts(out: Path) -> tuple[list[Path], int]:
    """The folders of the parts in OUT by number, and how many parts there should be."""
    folders = sorted((path.parent for path in out.glob(f"{_PARTS}/{records.SETTINGS}")), key=_number)
    counts = sorted({_count(folder) for folder in folders})
    if not counts:
        raise ValueError(f"{out}: no answers here; `predict --part K/N --out {out}` makes them")
    if len(counts) > 1:
        raise ValueError(f"{out}: answers of {' and of '.join(map(str, counts))} parts; remove those that do not count")
    return folders, counts[0]


def _check_other_parts(out: Path, count: int) -> None:
    if any(out.glob(f"{_PARTS}/{records.SETTINGS}")) and (there := _parts(out)[1]) != count:
        raise ValueError(f"{out}: was begun in {there} parts, not in {count}; continue so, or choose another --out")


def _check_same(folders: Sequence[Path], about: Sequence[dict[str, Any]]) -> None:
    """All parts were made alike."""
    for folder, other in zip(folders[1:], about[1:], strict=True):
        keys = sorted({*other, *about[0]} - {*records.PLACES, "part"})
        if differing := [key for key in keys if other.get(key) != about[0].get(key)]:
            shown = "; ".join(f"{key}: {about[0].get(key)}, and {other.get(key)}" for key in differing)
            raise ValueError(
                f"{folders[0]} and {folder} were made with different settings ({shown}); make one of them anew"
            )


def _next_step(out: Path, count: int) -> str:
    """What to run after a part. Lines are counted, and not read: other processes may be writing them."""
    done = []
    for folder in _parts(out)[0]:
        about = _settings(folder)
        file = folder / f"{about['mode']}.jsonl"
        rows = part_rows(about["n_shard"], _number(folder), count)
        if file.is_file() and file.read_bytes().count(b"\n") == len(rows):
            done.append(f"{_number(folder)}/{count}")
    merging = f"main_eval predict --merge --out {out}"
    if len(done) == count:
        return f"all {count} parts are complete; now run: {merging}"
    return f"complete parts: {', '.join(done)}; when all {count} are complete, run: {merging}"
