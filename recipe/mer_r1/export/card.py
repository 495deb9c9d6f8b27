"""The model card: README.md of the exported folder, with the front matter that model hubs read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from recipe.mer_r1.doctor import sources
from recipe.mer_r1.export.usage import usage
from recipe.mer_r1.method.answer import FORMS, ONE_ANSWER
from recipe.mer_r1.run.form import of_lineage

BASE_CARD = "README.base.md"
"""Where the card of the complete Omni is kept."""
_MISSING = "not found in the run folder"
_TAGS = ["qwen2_5_omni", "emotion-recognition", "multimodal", "video", "audio", "mer-r1"]
_THINKER = """The Thinker only, in the layout of Qwen2.5-Omni (`thinker.*` tensors, a full config with
`enable_audio_output: false`). It has no talker and no token2wav: it writes text and does not speak. Load it in
transformers with `Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained` (not with
`Qwen2_5OmniForConditionalGeneration`, which needs speakers), and in vLLM with `vllm serve`."""
_FULL = f"""A complete Qwen2.5-Omni. Only the Thinker was trained. **Talker and token2wav are untouched**: they are
identical, bit for bit, to those of the base folder. The talker was trained on the hidden states of the *original*
Thinker; its speech with this Thinker is not tested. Load the model in transformers with
`Qwen2_5OmniForConditionalGeneration.from_pretrained`, and in vLLM (text only) with `vllm serve`. `{BASE_CARD}` is the
original model card, if there was one."""


def text(lineage: dict[str, Any], full: bool, dtype: str) -> str:
    """The card.

    Args:
        lineage: of :func:`recipe.mer_r1.export.lineage.gather`.
        full: whether talker and token2wav are in the folder.
        dtype: of the Thinker's weights.
    """
    stages = lineage["stages"]
    root = stages[-1]["started_from"]
    base = _hub_name(root)
    front = {
        "library_name": "transformers",
        "pipeline_tag": "any-to-any" if full else "video-text-to-text",
        "license": "other",
        "license_name": "see-base-model",
        **({"base_model": base} if base else {}),
        "tags": _TAGS,
    }
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False).rstrip(),
        "---",
        f"# {stages[0]['run']}, step {lineage['step']}",
        "",
        _FULL if full else _THINKER,
        "",
        f"Weights of the Thinker: {dtype}. The model names a person's emotions in open vocabulary from video, sound "
        f"and subtitle, as `{_response(of_lineage(lineage) or ONE_ANSWER)}`.",
        "",
        "**License**: the licenses of the base model and of the data apply. Check them before you publish: a program "
        "wrote this card and does not know them.",
        "",
        *usage(lineage, full),
        "",
        "## Lineage",
        "",
        f"Base model: {f'`{root}`' if root else _MISSING}. `lineage.json` has all of this and the complete "
        "configurations.",
    ]
    for stage in stages:
        lines += ["", *_stage(stage)]
    exported = lineage["exported_with"]
    used = ", ".join(f"{name} {number}" for name, number in exported["versions"].items())
    return "\n".join([*lines, "", f"Exported with {used}; code {exported['git'] or 'not in a git checkout'}.", ""])


def _hub_name(root: str | None) -> str | None:
    """The name on a hub of the model that the first stage started from; None where it is a folder of another name."""
    if not root:
        return None
    if known := sources.model(root):
        return known.name
    named = root.count("/") == 1 and not root.startswith((".", "outputs", "models/")) and not Path(root).exists()
    return root if named else None


def _response(form: str) -> str:
    """What a response of the form looks like."""
    inside = {"<think>": "reason", "<answer>": "words"}
    return "".join(f"{tag}{inside.get(tag, '')}" for tag in FORMS[form].tags)


def _stage(stage: dict[str, Any]) -> list[str]:
    starts = stage["starts"]
    lines = [f"### {stage['run']}", "", f"Started from: {_code(stage['started_from'])}", ""]
    lines += [f"- `{start['command']}`; code {start['git'] or 'not in a git checkout'}" for start in starts]
    if not starts:
        lines.append(f"- command, code and versions: {_MISSING}")
    if stage["config"] is None:
        lines.append(f"- configuration and data: {_MISSING}")
    else:
        digest = starts[-1]["config_sha256"] if starts else _MISSING
        lines.append(f"- configuration at the last start: sha256 {digest}")
    if stage["data"]:
        lines += [
            "",
            "| data (hashes at the time of export) | corpus | sha256 | manifest sha256 |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| `{data['shard']}` | {data['corpus'] or 'not found'} | {_hash(data['sha256'])} | "
            f"{_hash(data['manifest_sha256'])} |"
            for data in stage["data"]
        ]
    if stage["scores"] is None:
        return [*lines, "", f"Scores: {_MISSING}."]
    lines += ["", f"| at step {stage['scores']['step']} | |", "|---|---|"]
    # The card's readers want the headline; every category's score is in lineage.json.
    shown = {name: value for name, value in stage["scores"]["values"].items() if "/category/" not in name}
    return [*lines, *(f"| {name} | {value:.4g} |" for name, value in shown.items())]


def _code(value: str | None) -> str:
    return f"`{value}`" if value else _MISSING


def _hash(value: str | None) -> str:
    return value or "not found"
