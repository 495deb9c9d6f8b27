"""GRPO of the tiny preset's model and clips with ms-swift, measured as loop.py measures ours.

    benchmarks/peers/setup.sh                                           once: .venv-peers
    python benchmarks/peers/ms_swift.py --json                          ms-swift alone
    python benchmarks/peers/ms_swift.py --json --with-ours --turns 2    in turns with this tree's baseline

Run it with the project's own Python (.venv). Sizes, model and clips are those of the preset. Overrides (key=value)
change them for both. With --json, the last line of the output is one JSON object. README.md says what is comparable.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # benchmarks
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository, where it is not installed

import loop_turns
from loop import inputs
from loop_run import measure, watched

from recipe.mer_r1.run.launch import compose

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PEER, OURS = ("ms-swift", "baseline"), ("this tree", "baseline")
PATCH = 14 * 2  # a token is 2 x 2 patches of 14 pixels


def dataset_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of our shard as ms-swift's dataset has it; the labels become `solution`, which the reward receives."""
    return {
        "messages": row["prompt"],
        "videos": row["videos"],
        "audios": row["audios"],
        "solution": row["reward_model"]["ground_truth"],
    }


def write_dataset(shard: str, out: Path) -> None:
    """Our shard with clips in files as JSON lines."""
    from verl_ext.data.shard_media import read_table

    rows = read_table(shard).to_pylist()
    out.write_text("".join(f"{json.dumps(dataset_row(row), ensure_ascii=False)}\n" for row in rows), encoding="utf-8")


def generation_config(given: Mapping[str, Any], thinker: Mapping[str, Any]) -> dict[str, Any]:
    """A generation_config.json that bans the media tokens: one that is sampled ends ms-swift's run."""
    banned = [thinker[f"{kind}_token_index"] for kind in ("audio", "image", "video")]
    return {**given, "suppress_tokens": banned}


def copy_model(model: Path, out: Path) -> int:
    """Prepare a folder with links to the model's files and with what ms-swift needs beside them.

    ms-swift loads a complete Qwen2.5-Omni, which has a dictionary of speakers; an empty one is enough.

    Returns:
        The size of the vocabulary.
    """
    import torch

    out.mkdir()
    for path in model.resolve().iterdir():
        (out / path.name).symlink_to(path)
    thinker = json.loads((model / "config.json").read_text())["thinker_config"]
    path = out / "generation_config.json"
    given = json.loads(path.read_text())
    path.unlink()
    path.write_text(json.dumps(generation_config(given, thinker)))
    torch.save({}, out / "spk_dict.pt")
    return thinker["text_config"]["vocab_size"]


def environment(media: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Variables of ms-swift: how clips are sampled, where it writes, and no network."""
    return {
        "PYTHONPATH": str(ROOT),
        "PEER_METRICS": str(folder / "metrics.jsonl"),
        "FPS": str(media["fps"]),
        "FPS_MAX_FRAMES": str(media["max_frames"]),
        "FPS_MIN_FRAMES": "2",
        "VIDEO_MIN_TOKEN_NUM": str(math.ceil(media["min_pixels"] / PATCH**2)),
        "VIDEO_MAX_TOKEN_NUM": str(media["max_pixels"] // PATCH**2),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(folder / "datasets"),
        "MODELSCOPE_CACHE": str(folder / "modelscope"),
    }


def flags(preset: Mapping[str, Any], vocabulary: int, steps: int, folder: Path) -> list[str]:
    """ms-swift's command line for the work of a preset's step."""
    responses = preset["prompts_per_step"] * preset["responses_per_prompt"]
    micro = min(preset["micro_batch_size"], responses)
    if responses % micro:
        raise SystemExit(f"preset.micro_batch_size={micro} must divide the {responses} responses of a step")
    settings = {
        "rlhf_type": "grpo",
        "model": folder / "model",
        "model_type": "qwen2_5_omni",
        "use_hf": "true",
        "system": "",
        "dataset": folder / "rl.jsonl",
        "split_dataset_ratio": 0,
        "load_from_cache_file": "false",
        "external_plugins": HERE / "ms_swift_plugin.py",
        "reward_funcs": "emotion",
        "callbacks": "step_times",
        "torch_dtype": "float32",
        "attn_impl": "sdpa",
        "tuner_type": "full",
        "freeze_vit": "false",
        "freeze_aligner": "false",
        "gradient_checkpointing": str(preset["gradient_checkpointing"]).lower(),
        "num_generations": preset["responses_per_prompt"],
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": responses // micro,
        "max_length": preset["max_prompt_length"],
        "max_completion_length": preset["max_response_length"],
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": vocabulary,
        "beta": preset["kl_coef"],
        "loss_type": "dapo",
        "learning_rate": preset["lr"],
        "lr_scheduler_type": "constant",
        "warmup_ratio": 0,
        "weight_decay": 0,
        "max_grad_norm": 1.0,
        "max_steps": steps,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "dataloader_num_workers": 0,
        "dataset_num_proc": 1,
        "seed": preset["seed"],
        "output_dir": folder / "output",
        "add_version": "false",
    }
    return [text for name, value in settings.items() for text in (f"--{name}", str(value))]


def run_peer(python: Path, overrides: Sequence[str], steps: int, folder: Path) -> dict[str, Any]:
    """Prepare and measure one run of ms-swift."""
    folder.mkdir()
    preset = compose("ppo", list(overrides)).preset
    write_dataset(preset.train_files, folder / "rl.jsonl")
    vocabulary = copy_model(Path(preset.model_path), folder / "model")
    variables = [f"{name}={value}" for name, value in environment(preset.media, folder).items()]
    command = [python, "-m", "swift.cli.rlhf", *flags(preset, vocabulary, steps, folder)]
    # in its folder: ms-swift and its libraries write beside themselves
    return watched(["env", f"--chdir={folder}", *variables, *map(str, command)], folder, folder / "ms_swift.log")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON after the table")
    parser.add_argument("--steps", type=int, default=7, help="steps of a run (default 7)")
    parser.add_argument("--turns", type=int, default=1, help="runs of each kind (default 1)")
    parser.add_argument("--with-ours", action="store_true", help="run this tree's baseline, too, in turns")
    parser.add_argument("--python", type=Path, default=ROOT / ".venv-peers" / "bin" / "python")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. preset.model_path=DIR")
    given = parser.parse_args()
    if not given.python.exists():
        parser.error(f"{given.python} does not exist: run benchmarks/peers/setup.sh, or name another with --python")
    overrides = inputs(given.overrides, ROOT)
    kinds = [PEER, OURS] if given.with_ours else [PEER]
    with tempfile.TemporaryDirectory(prefix="mer-r1-peers-") as folder:

        def run(kind: loop_turns.Kind, turn: int) -> dict[str, Any]:
            here = Path(folder) / f"{turn}-{kinds.index(kind)}"
            if kind == PEER:
                return run_peer(given.python.absolute(), overrides, given.steps, here)
            return measure(here, given.steps, ["experiment=baseline", *overrides], ROOT)

        turns = [kinds[::-1] if turn % 2 else kinds for turn in range(given.turns)]
        results = loop_turns.take(turns, run)
    result = {
        "steps": given.steps,
        "turns": given.turns,
        **loop_turns.compared(results, [(PEER, OURS)] if given.with_ours else []),
    }
    print(loop_turns.table(result))
    if given.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
