"""Let a model answer the clips of one or more shards, slow and fast, and score the answers on the emotion wheels.

    python -m recipe.mer_r1.main_eval run --model DIR --data SHARD.parquet … --mode slow,fast --out DIR

Each shard gets a folder, OUT/CORPUS, with one file per mode (slow.jsonl …, one line per answer) and scores.json with
the means. `main_eval report` makes tables and figures from these folders. Each answer is written at once: run the same
command again to continue, also with more clips, modes, shards or samples. --workers N makes the same answers with N
processes, each with a GPU of its own. If a clip cannot be decoded, or its prompt
is too long, its line has the reason under "failed", and the clip counts as wrong. Clips are decoded, encoded and
sampled as in RL, with the preset's media settings. A model that answers before and after its thought (form
answer_think_answer, docs/experiments.md) makes one response per clip: its first answer is the fast one, its last answer
the slow one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from recipe.mer_r1.eval import devices, records, workers
from recipe.mer_r1.eval.answer_modes import MODES, PREFIXES, SAMPLED
from recipe.mer_r1.eval.clip_sets import ClipSet, check_shards, folder_names, load_clip_sets
from recipe.mer_r1.eval.counted import Counted
from recipe.mer_r1.eval.fingerprints import weights_sha256
from recipe.mer_r1.eval.generate import Generation, load_preset, settings
from recipe.mer_r1.eval.judge.endpoint import positive
from recipe.mer_r1.eval.score_table import table
from recipe.mer_r1.files import exits
from recipe.mer_r1.method.answer import FORMS, ONE_ANSWER, ask_for
from recipe.mer_r1.pipeline.shown import shown
from recipe.mer_r1.run import hub, launch, output
from recipe.mer_r1.run.form import form_of
from recipe.mer_r1.run.heading import BUILT_IN, rows
from recipe.mer_r1.run.inputs import check_model_folder


def parser(prog_name: str) -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=prog_name,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument(
        "--model",
        required=True,
        help="folder of a full-Omni model, as main_sft and main_ppo write it, or hf://OWNER/NAME",
    )
    result.add_argument(
        "--data",
        required=True,
        nargs="+",
        metavar="SHARD",
        help="parquet shards, or hf://datasets/OWNER/NAME/PATH.parquet",
    )
    result.add_argument(
        "--media-root", type=Path, help="folder that the shards' relative paths start from; default: their own"
    )
    result.add_argument(
        "--out", required=True, type=Path, help="folder for the results; each shard gets its own folder in it"
    )
    result.add_argument(
        "--mode",
        type=modes,
        default=(*PREFIXES,),
        help=f"one or more of {', '.join(MODES)} (default slow,fast); modes with _sampled use temperature 1",
    )
    result.add_argument(
        "--samples",
        type=positive,
        default=1,
        metavar="N",
        help="answers per clip in modes with _sampled, each with its own seed (default 1); other modes have one",
    )
    result.add_argument(
        "--form",
        choices=(*FORMS,),
        help="form of a response; default: as the model was trained by its lineage, think_answer if that is unknown",
    )
    result.add_argument(
        "--temperature", type=temperature, default=0.0, help="of slow and fast, 0 to 2; 0 (default) is greedy"
    )
    result.add_argument(
        "--max-tokens", type=positive, help="limit of a response; default: max_response_length of the preset"
    )
    result.add_argument("--limit", type=positive, help="answer only the first N clips of each shard")
    add_workers(result)
    result.add_argument("--retry-failed", action="store_true", help="answer failed clips again")
    result.add_argument("--wheels", help="official wheels: a folder, or wheel_mapping.npz; default: the built-in table")
    result.add_argument("--preset", default="tiny", help="conf/preset/NAME.yaml: media, vLLM and length settings")
    result.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="change keys of the preset: media.fps=1 …"
    )
    result.add_argument(
        "--verbose", action="store_true", help=f"all output on the screen; without it, most goes to OUT/{output.LOG}"
    )
    return result


def add_workers(result: argparse.ArgumentParser) -> None:
    """The option of the commands that answer clips."""
    result.add_argument(
        "--workers",
        type=positive,
        default=1,
        metavar="N",
        help="processes that share the clips, each with the model on GPUs of its own (default 1); an interrupted run "
        "may continue with another N",
    )


def temperature(text: str) -> float:
    """A temperature that vLLM takes, as the type of an argument."""
    found = float(text)
    if not 0 <= found <= 2:
        raise argparse.ArgumentTypeError(f"{text}: must be from 0 (greedy) to 2")
    return found


def modes(text: str) -> tuple[str, ...]:
    """The modes of a list with commas."""
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    unknown = [mode for mode in found if mode not in MODES]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown mode {', '.join(map(repr, unknown))}; use {', '.join(MODES)}")
    return found


def app(arguments: Sequence[str], prog_name: str = "main_eval run") -> None:
    """The subcommand. Exits with 2 and a message where the input is at fault."""
    chosen = parser(prog_name).parse_args(arguments)
    with exits.input_faults(prog_name, ValueError, OSError):  # ShardError, WheelError and the like are ValueErrors
        run(chosen)


def run(arguments: argparse.Namespace) -> None:
    """Check everything, make what is missing, write the scores, print them."""
    if arguments.samples > 1 and not any(mode.endswith(SAMPLED) for mode in arguments.mode):
        raise ValueError(
            f"--samples {arguments.samples} needs a mode that ends in {SAMPLED}: add --mode slow{SAMPLED},fast{SAMPLED}"
        )
    preset = load_preset(arguments.preset, arguments.set)
    arguments.model = hub.local_model(arguments.model, "--model")
    arguments.data = [Path(hub.local_file(shard, "--data")) for shard in arguments.data]
    check_model_folder(arguments.model, "--model")
    check_shards(arguments.data)
    launch.prepare_environment(preset.device, arguments.model)
    check_workers(arguments, preset)
    form = choose_form(arguments.model, arguments.form)
    log = arguments.out / output.LOG
    with output.to_log(log, "main_eval run", arguments.verbose, passed=(ValueError, OSError)) as screen:
        screen.console.print("\n".join(heading(arguments, form)), markup=False, highlight=False, soft_wrap=True)
        counted = Counted()
        with shown(screen, "answers", "answers", counted.status):
            answered = answer(arguments, preset, form, counted)
    for name, failures, scores in answered:
        print(f"\n{name}: {arguments.out / name}\n{table(scores)}")
        for failure in failures:
            print(failure, file=sys.stderr)


def check_workers(arguments: argparse.Namespace, preset: Any) -> None:
    """There are enough GPUs; InputError, which is a ValueError, otherwise."""
    if arguments.workers > 1:
        devices.environments(arguments.workers, preset)


def heading(arguments: argparse.Namespace, form: str) -> list[str]:
    """What is answered, in five lines; in six with several workers."""
    shards = ", ".join(f"{path} ({rows(str(path))})" for path in arguments.data)
    first = f", the first {arguments.limit} of each" if arguments.limit is not None else ""
    modes = f"{', '.join(arguments.mode)}; form {form}"
    return [
        f"answers  → {arguments.out} (all other output: {arguments.out / output.LOG})",
        f"model    {arguments.model} with preset {arguments.preset}",
        f"data     {shards}{first}",
        f"modes    {modes}; {arguments.samples} per clip where sampled",
        f"wheels   {arguments.wheels or BUILT_IN}",
        *([f"workers  {arguments.workers}"] if arguments.workers > 1 else []),
    ]


def answer(
    arguments: argparse.Namespace, preset: Any, form: str, counted: Counted
) -> list[tuple[str, list[str], dict[str, dict[str, Any]]]]:
    """Check the clips, make what is missing, write the scores; each shard's folder name, failures and means."""
    from recipe.mer_r1.method.wheel import load_wheels

    wheels = load_wheels(arguments.wheels)
    sets = load_clip_sets(arguments.data, arguments.media_root, preset.media.use_audio_in_video, arguments.limit)
    weights = weights_sha256(Path(arguments.model))
    todo = []
    with ExitStack() as held:
        for name, clips in zip(folder_names(sets), sets, strict=True):
            check_labelled(clips)
            check_prompts(clips, form)
            chosen = settings(arguments, preset, wheels.identity, weights, clips, form)
            held.enter_context(records.alone(arguments.out / name))
            records.claim(arguments.out / name, chosen)
            given = arguments.mode, arguments.temperature, preset.seed, wheels, arguments.samples, form
            made = Generation(arguments.out / name, clips, *given)
            todo.append((name, made, chosen))
        if arguments.retry_failed:
            output.say(f"making {sum(made.forget_failures() for _, made, _ in todo)} failed answers again")
        seconds = generate_missing(arguments, preset, form, [made for _, made, _ in todo], counted)
        return [(name, [*failures_of(made)], made.write_scores(chosen, seconds)) for name, made, chosen in todo]


def choose_form(model: str, given: str | None) -> str:
    """The form that was given, or else that of the model's lineage, or else the default; says which if not the default.

    Args:
        model: its folder.
        given: by the user.
    """
    trained = form_of(model)
    form = given or (trained.form if trained else ONE_ANSWER)
    if trained and form != trained.form:
        print(f"form: {form} (--form), but the model was trained with {trained.form} ({trained.source})")
    elif form != ONE_ANSWER:
        print(f"form: {form} ({'--form' if given else trained.source}): first answer fast, last answer slow")
    return form


def check_labelled(clips: ClipSet) -> None:
    """There is something to score; ValueError for a shard of candidates."""
    if not any(row["reward_model"]["ground_truth"] for row in clips.rows.select_columns(["reward_model"])):
        raise ValueError(
            f"{clips.shard}: none of its rows has a label, so there is nothing to score; `main_eval predict` answers "
            "such rows for a submission"
        )


def check_prompts(clips: ClipSet, form: str) -> None:
    """The clips can be asked for the form. The first one tells, before a model is loaded; ValueError otherwise."""
    if form != ONE_ANSWER and len(clips.rows):
        ask_for(form, clips.rows[0]["prompt"][-1]["content"])


def generate_missing(
    arguments: argparse.Namespace,
    preset: Any,
    form: str,
    todo: Sequence[Generation],
    counted: Counted | None = None,
    logs: Path | None = None,
) -> float:
    """Seconds that it took, the model's start included; no model is started where nothing is missing.

    Args:
        counted: of a screen that is shown already; None: show one here, with the log in `arguments.out`.
        logs: folder of the logs of several workers; None: `arguments.out`.

    Raises:
        WorkerError: one of several workers has died.
    """
    if counted is None:
        counted, verbose = Counted(), getattr(arguments, "verbose", False)
        with (
            output.to_log(arguments.out / output.LOG, "main_eval", verbose, passed=(ValueError, OSError)) as screen,
            shown(screen, "answers", "answers", counted.status),
        ):
            return generate_missing(arguments, preset, form, todo, counted, logs)
    total, missing = sum(made.total for made in todo), sum(len(made.missing()) for made in todo)
    if total > missing:
        output.say(f"{total - missing} of {total} answers were there already")
    if not missing:
        return 0.0
    counted.doing = "loading the model into vLLM"
    start, max_tokens = time.perf_counter(), arguments.max_tokens or preset.max_response_length
    if arguments.workers > 1:
        counted.doing = "loading the model in each worker"
        wheels, place = getattr(arguments, "wheels", None), logs or arguments.out
        plan = workers.Plan(arguments.model, preset, max_tokens, form, wheels, arguments.media_root, place)
        own = devices.environments(arguments.workers, preset)
        workers.answer(todo, plan, own, lambda made: counted.of_workers(total, total - missing, made))
        return time.perf_counter() - start
    from recipe.mer_r1.eval.rollout import Rollout

    rollout = Rollout(arguments.model, preset, max_tokens, form)
    counted.begin(total, total - missing)
    for made in todo:
        made(rollout, counted.one_more)
    return time.perf_counter() - start


def failures_of(made: Generation) -> Iterator[str]:
    """A sentence for each mode that has failed clips. For the process that has the folder: the files are read."""
    for mode, lines in made.lines():
        failed = [line for line in lines if "failed" in line]
        if failed:
            first, (count, total) = failed[0], (len({line["index"] for line in found}) for found in (failed, lines))
            yield (
                f"{mode}: {count} of {total} clips failed and count as wrong. The first is "
                f"{first['name']!r}: {first['failed']}. Fix them, then run again with --retry-failed."
            )
