"""What is written beside the shards: manifest.json for programs, README.md for people."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from data_prep.drops import LEFT_OUT, Drops
from data_prep.options import Options
from data_prep.places import Root
from data_prep.reader import Reader
from recipe.mer_r1.files.provenance import file_sha256, git_state, versions
from recipe.mer_r1.files.whole import write_whole

MANIFEST = "manifest.json"
_MOST_COMMON = 15


class Tally:
    """Counts over the rows of all shards, for the card."""

    def __init__(self) -> None:
        self.labels: Counter[str] = Counter()
        self.labels_a_clip: Counter[int] = Counter()
        self.groups: Counter[str] = Counter()
        self.without_subtitle = self.without_picture = self.without_sound = 0

    def add(self, row: dict[str, Any]) -> None:
        """Count a row."""
        labels = row["reward_model"]["ground_truth"]
        self.labels.update(labels)
        self.labels_a_clip[len(labels)] += 1
        self.without_subtitle += not row["extra_info"]["subtitle"]
        self.without_picture += not row["videos"]
        self.without_sound += not row["audios"]
        if group := row["extra_info"]["group"]:
            self.groups[group] += 1

    def partial(self) -> dict[str, int]:
        """Clips without picture and without sound, where there are some."""
        found = {"picture": self.without_picture, "sound": self.without_sound}
        return {part: count for part, count in found.items() if count}


def manifest(
    reader: Reader,
    root: Root,
    options: Options,
    counts: dict[str, int],
    read: int,
    with_reason: int,
    drops: Drops,
) -> dict[str, Any]:
    """Everything that decided the shards' content; no date, so that the same input makes the same file."""
    inputs = reader.inputs(root) + (reader.test.inputs(root) if reader.test else [])
    return {
        "corpus": reader.name,
        "title": reader.title,
        "command": options.command,
        "rows": counts,
        "read": read,
        "published": reader.published,
        "scored_by_official_scorer": reader.scored,
        "left_out": drops.clips,
        "left_out_by_reason": dict(sorted(drops.by_kind.items())),
        "with_reason": with_reason,
        "seed": options.seed,
        "sft": options.sft,
        "odd_labels": options.odd_labels,
        "missing": options.missing,
        "without": list(options.without),
        "embedded": options.embed,
        "media_root": None if options.embed else str(root.folder.absolute()),
        "inputs_sha256": {_named(path, root): file_sha256(path) for path in inputs},
        "quarantine_sha256": file_sha256(options.quarantine) if options.quarantine else None,
        "held_out_sha256": {str(path): file_sha256(path) for path in options.held_out},
        "wheels": options.wheels.identity,
        "git": git_state(),
        "versions": versions("mer-r1", "pyarrow"),
    }


def notes(reader: Reader, manifest: dict[str, Any]) -> list[str]:
    """What a user should know before training on the shards."""
    if not manifest["rows"].get("sft") or manifest["with_reason"]:
        return []
    return [
        f"no clip has a reason, so SFT on sft.parquet teaches the fast form only, <think></think><answer>…; {way_out}"
        for way_out in (reader.if_no_reasons or "add reasons with --reasons FILE, a CSV name,reason",)
    ]


def _named(path: Path, root: Root) -> str:
    """A file relative to the corpus's folder, where it lies in it."""
    return str(path.relative_to(root.folder) if path.is_relative_to(root.folder) else path)


def write(out: Path, reader: Reader, manifest: dict[str, Any], tally: Tally) -> None:
    """Write both files."""
    write_whole(out / MANIFEST, (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())
    write_whole(out / "README.md", _text(reader, manifest, tally).encode())


def _text(reader: Reader, manifest: dict[str, Any], tally: Tally) -> str:
    kept = sum(manifest["rows"].values())
    lines = [
        f"# {reader.title}: shards",
        "",
        f"Written by `{manifest['command'] or 'data_prep.build'}` from the files named in {MANIFEST}.",
        "The clips, labels and texts belong to the authors of the corpus; their terms also apply to these files.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {split}.parquet | {count} rows |" for split, count in manifest["rows"].items()),
        f"| rows of the label file | {manifest['read']}{_against(manifest['published'])} |",
        f"| left out ({LEFT_OUT}) | {manifest['left_out']} |",
        *(f"| … {kind} | {count} |" for kind, count in manifest["left_out_by_reason"].items()),
        f"| clips without a subtitle | {tally.without_subtitle} |",
        *(f"| clips without {part} | {count} |" for part, count in tally.partial().items()),
        f"| labels per clip: share of clips | {_shares(sorted(tally.labels_a_clip.items()), kept)} |",
        f"| most common labels, share of clips | {_shares(tally.labels.most_common(_MOST_COMMON), kept)} |",
        f"| distinct labels | {len(tally.labels)} |",
    ]
    lines += [f"| {group} | {count} clips |" for group, count in sorted(tally.groups.items())]
    if found := notes(reader, manifest):
        lines += ["", *(f"Note: {note}." for note in found)]
    media = "inside the shards" if manifest["embedded"] else f"by path relative to `{manifest['media_root']}`"
    return "\n".join([*lines, "", f"Media: {media}. Columns: docs/data.md of the project.", ""])


def _against(published: int | None) -> str:
    return f" (published: {published})" if published else ""


def _shares(counts: list[tuple[Any, int]], kept: int) -> str:
    return ", ".join(f"{key}: {count / kept:.3f}" for key, count in counts)
