"""Slow and fast answers of a model to the clips of a shard, scored on the emotion wheels.

    python -m recipe.mer_r1.main_eval generate --model DIR --shard FILE.parquet --out DIR

Writes a file a form, OUT/slow.jsonl and the like, a line a clip, as they come, so that a run that was cut off goes on;
then OUT/scores.json with the means. Clips are decoded, encoded and sampled as in RL, with the preset's media settings.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recipe.mer_r1 import launch
from recipe.mer_r1.answer import FAST_PREFIX
from recipe.mer_r1.eval import records
from recipe.mer_r1.eval.provenance import git_state, versions

PREFIXES = {"slow": "", "fast": FAST_PREFIX}
SAMPLED = "_sampled"
"""Ending of the forms that are sampled at temperature 1, as RL samples, whatever `--temperature` says."""
FORMS = (*PREFIXES, *(f"{form}{SAMPLED}" for form in PREFIXES))
_CLIPS_AT_ONCE = 32
_LIBRARIES = ("mer-r1", "verl", "vllm", "transformers", "torch")


def parser(prog_name: str) -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=prog_name,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--model", required=True, help="folder of a full-Omni model, as main_sft and main_ppo write it")
    result.add_argument("--shard", required=True, type=Path, help="parquet shard (verl's columns)")
    result.add_argument("--media-root", type=Path, help="folder of the shard's relative paths; default: its own")
    result.add_argument("--out", required=True, type=Path, help="folder for the answers and scores.json")
    result.add_argument(
        "--thinking",
        nargs="+",
        choices=FORMS,
        default=[*PREFIXES],
        help="forms (default slow fast); those that end in _sampled have temperature 1",
    )
    result.add_argument("--temperature", type=float, default=0.0, help="of slow and fast; 0 (default) is greedy")
    result.add_argument("--max-tokens", type=int, help="of a response; default: the preset's max_response_length")
    result.add_argument("--limit", type=int, help="only the first N clips")
    result.add_argument("--wheels", help="folder of the official wheels; default: the built-in table")
    result.add_argument("--preset", default="tiny", help="conf/preset/NAME.yaml: media, vLLM and length settings")
    result.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="keys of the preset: media.fps=1 …")
    return result


def load_preset(name: str, changes: Sequence[str]) -> DictConfig:
    """The `preset` node with changes such as `media.fps=1` put in.

    Raises:
        ValueError: no such preset, or no such key.
    """
    path = launch.CONF / "preset" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml")))
        raise ValueError(f"--preset {name}: no such preset; there are {known}")
    config = OmegaConf.create({"preset": OmegaConf.load(path)})
    OmegaConf.set_struct(config, True)
    try:
        for change in changes:
            key, separator, _ = change.partition("=")
            if not separator:
                raise ValueError(f"--set {change}: write KEY=VALUE")
            OmegaConf.select(config.preset, key, throw_on_missing=True)
            config.preset.merge_with_dotlist([change])
    except OmegaConfBaseException as error:
        raise ValueError(f"--set {change}: the preset has no such key ({str(error).splitlines()[0]})") from error
    return config.preset


def settings(arguments: argparse.Namespace, preset: DictConfig, identity: dict[str, str]) -> dict[str, Any]:
    """What decides the answers and their scores. A folder holds answers of one set of them; more clips may be added."""
    model = Path(arguments.model)
    weights = sorted(model.glob("*.safetensors"))
    return {
        "model": str(model.resolve()) if model.is_dir() else arguments.model,
        # A model trained anew in the same folder is another one.
        "weights": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in weights],
        "shard": str(arguments.shard.resolve()),
        "media_root": arguments.media_root and str(arguments.media_root.resolve()),
        "temperature": arguments.temperature,
        "max_tokens": arguments.max_tokens or preset.max_response_length,
        "max_prompt_length": preset.max_prompt_length,
        # Not where decoded clips are kept: that changes no answer.
        "media": {
            key: value
            for key, value in OmegaConf.to_container(preset.media, resolve=True).items()
            if not key.startswith("cache_")
        },
        "dtype": preset.rollout.dtype,
        "seed": preset.seed,
        "wheels": identity,
    }


def app(arguments: Sequence[str], prog_name: str = "main_eval generate") -> None:
    """The subcommand. Exits with 2 and a message where the input is at fault."""
    chosen = parser(prog_name).parse_args(arguments)
    try:
        run(chosen)
    except (ValueError, OSError) as error:  # ShardError, MediaError and the like are ValueErrors
        print(f"{prog_name}: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def run(arguments: argparse.Namespace) -> None:
    """Check, make what is missing, write the scores, print them."""
    from recipe.mer_r1.preflight import check_model_folder
    from recipe.mer_r1.wheel import EmotionWheels

    preset = load_preset(arguments.preset, arguments.set)
    check_model_folder(arguments.model, "--model")
    launch.prepare_environment(preset.device, arguments.model)
    wheels = EmotionWheels.load(arguments.wheels) if arguments.wheels else EmotionWheels.builtin()
    chosen = settings(arguments, preset, wheels.identity)
    rows = load_rows(arguments.shard, preset.media.use_audio_in_video, arguments.limit, arguments.media_root)
    records.claim(arguments.out, chosen)
    start = time.perf_counter()
    generate(arguments, preset, rows, wheels)
    seconds = time.perf_counter() - start
    scores = {
        mode: records.means(
            record for index, record in records.read(arguments.out / f"{mode}.jsonl").items() if index < len(rows)
        )
        for mode in arguments.thinking
    }
    summary = {
        "modes": scores,
        "settings": chosen,
        "seconds": round(seconds, 1),
        "git": git_state(),
        "versions": versions(*_LIBRARIES),
    }
    (arguments.out / "scores.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(table(scores))


def load_rows(shard: Path, use_audio_in_video: bool, limit: int | None, media_root: Path | None = None) -> Any:
    """The shard's rows, checked; `limit` of them at most.

    Raises:
        FileNotFoundError: there is no such shard.
        ShardError: the shard or a row cannot be used.
    """
    from verl_ext.omni.dataset import load_clips

    if not shard.is_file():
        raise FileNotFoundError(f"--shard {shard}: no such file. Make shards with `python -m data_prep`.")
    rows = load_clips(shard, media_root, use_audio_in_video)
    return rows.select(range(limit)) if limit is not None and limit < len(rows) else rows


def generate(arguments: argparse.Namespace, preset: DictConfig, rows: Any, wheels: Any) -> None:
    """Append the answers that the files lack, some clips at a time, all forms of a clip together."""
    files = {mode: arguments.out / f"{mode}.jsonl" for mode in arguments.thinking}
    done = {mode: records.read(file).keys() for mode, file in files.items()}
    missing = [index for index in range(len(rows)) if any(index not in done[mode] for mode in files)]
    total, made = len(rows) * len(files), sum(len(set(range(len(rows))) & done[mode]) for mode in files)
    print(f"answers {made}/{total}", flush=True)
    if not missing:
        return
    from recipe.mer_r1.eval.rollout import Request, Rollout

    rollout = Rollout(arguments.model, preset, arguments.max_tokens or preset.max_response_length)
    for start in range(0, len(missing), _CLIPS_AT_ONCE):
        wanted = [
            (mode, index)
            for index in missing[start : start + _CLIPS_AT_ONCE]
            for mode in files
            if index not in done[mode]
        ]
        replies = rollout(
            [
                Request(
                    rows[index],
                    PREFIXES[mode.removesuffix(SAMPLED)],
                    1.0 if mode.endswith(SAMPLED) else arguments.temperature,
                    preset.seed + len(FORMS) * index + FORMS.index(mode),
                )
                for mode, index in wanted
            ]
        )
        for mode, file in files.items():
            records.append(
                file,
                (
                    records.record(rows[index], index, reply.text, wheels)
                    | {"tokens": reply.tokens, "finished": reply.finished}
                    for (form, index), reply in zip(wanted, replies, strict=True)
                    if form == mode
                ),
            )
        made += len(wanted)
        print(f"answers {made}/{total}", flush=True)


def table(scores: dict[str, dict[str, Any]]) -> str:
    """The means as text, a line a form."""
    names = ("recall", "precision", "f1", "format", "num_words", "categories")
    lines = [f"{'':13}" + "".join(f"{name:>12}" for name in (*names, "clips"))]
    for mode, mean in scores.items():
        cells = "".join(f"{mean[name]:12.3f}" if mean[name] is not None else f"{'-':>12}" for name in names)
        lines.append(f"{mode:13}{cells}{mean['n']:12d}")
    return "\n".join(lines)
