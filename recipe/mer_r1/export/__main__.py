"""Export a checkpoint to a folder that transformers and vLLM load, with a model card.

    python -m recipe.mer_r1.export RUN_DIR|CHECKPOINT --out DIR [--step N] [--full OMNI_DIR] [--dtype …] [--check]
        [--push OWNER/NAME [--public] [--dry-run]]

Exit code 0: written; 1: --check found a fault, or the upload failed; 2: the input is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from recipe.mer_r1.export import places, push
from recipe.mer_r1.files import exits
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.run import launch


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m recipe.mer_r1.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("source", type=Path, metavar="RUN_DIR|CHECKPOINT", help="run or checkpoint of RL or SFT")
    result.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="new folder for the export; it must not exist"
    )
    result.add_argument(
        "--step", type=int, metavar="N", help="step of the checkpoint (default: the newest complete checkpoint)"
    )
    result.add_argument("--full", type=Path, metavar="OMNI_DIR", help="put the Thinker into this complete Qwen2.5-Omni")
    result.add_argument(
        "--dtype", choices=["bfloat16", "float32"], help="dtype of the weights (default: as in the checkpoint's config)"
    )
    result.add_argument(
        "--check",
        action="store_true",
        help="load the export in transformers, and compare vLLM with transformers on a clip",
    )
    result.add_argument("--preset", default="tiny", metavar="NAME", help="preset for --check (default: tiny)")
    hub = result.add_argument_group("upload, after the export and its check")
    hub.add_argument(
        "--push",
        metavar="OWNER/NAME",
        help="upload to this repository of huggingface.co; an --out that exists is uploaded as it is",
    )
    hub.add_argument("--public", action="store_true", help="make a new repository public (default: private)")
    hub.add_argument("--dry-run", action="store_true", help="list what would be uploaded; no network, no token")
    return result


@exits.plain("export")
def main(arguments: Sequence[str]) -> int:
    """Export, check; returns the exit code."""
    options = parser().parse_args(arguments)
    for name, value in launch.ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    target = push.Target(options.push, options.public, options.dry_run) if options.push else None
    try:
        if target is None and (options.public or options.dry_run):
            raise InputError("--public and --dry-run are for --push OWNER/NAME; give it")
        if target:
            push.check(target)
        if target and push.is_export(options.out):
            print(f"{options.out}: exported already")
        else:
            export(options)
            print(f"{options.out}: written; the model card is README.md")
    except (InputError, ValueError, FileNotFoundError, NotImplementedError) as error:
        print(f"export: {error}", file=sys.stderr)
        return exits.INPUT
    return _check_and_push(options, target)


def _check_and_push(options: argparse.Namespace, target: push.Target | None) -> int:
    """What follows an export, as far as it was asked for; a model with a fault is not uploaded."""
    if options.check:
        from recipe.mer_r1.export.check import check

        if not check(options.out, options.preset):
            return exits.FAILED
    if target:
        try:
            print(push.push(options.out, target))
        except push.PushError as error:
            print(f"export: {error}", file=sys.stderr)
            return exits.FAILED
    return exits.OK


def export(options: argparse.Namespace) -> None:
    """Write the folder under another name and rename it when it is whole.

    Raises:
        InputError: no such checkpoint, or ``--out`` is in use.
        ValueError, FileNotFoundError, NotImplementedError: the shards or the complete Omni cannot be used.
    """
    out = options.out
    if out.exists():
        raise InputError(f"--out {out}: exists already; choose a new folder, or remove this one")
    if options.full and options.dtype:
        raise InputError(
            "--dtype cannot be used with --full: the Thinker takes the dtype of the Thinker that it replaces"
        )
    if options.full and not options.full.is_dir():
        raise InputError(f"--full {options.full}: no such folder")
    checkpoint = places.find(options.source, options.step)
    print(f"step {checkpoint.step} of {checkpoint.run_dir}: reading the shards", flush=True)

    import torch

    from recipe.mer_r1.export import card, lineage
    from verl_ext.models import full_omni
    from verl_ext.models.checkpoint import save_full_omni
    from verl_ext.models.export import read_checkpoint

    state, config, processor = read_checkpoint(checkpoint.shards)
    if options.full:
        full_omni.check(options.full, state, config, processor.tokenizer)
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of an export that was cut off
    print("writing", flush=True)
    if options.full:
        full_omni.put_back(part, options.full, state, {"README.md": card.BASE_CARD})
    else:
        save_full_omni(part, state, config, processor, getattr(torch, options.dtype) if options.dtype else None)
    found = lineage.gather(checkpoint)
    (part / "lineage.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    dtype = json.loads((part / "config.json").read_text(encoding="utf-8"))["thinker_config"].get("dtype")
    (part / "README.md").write_text(
        card.text(found, bool(options.full), dtype or "as in the base model"), encoding="utf-8"
    )
    part.rename(out)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
