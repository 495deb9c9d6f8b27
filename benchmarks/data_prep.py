"""Measure data preparation: rows per second and memory of `build`, clips per second of `check` and of ffprobe.

    python benchmarks/data_prep.py --json [--rows 1000 31327 100000] [--clips 200] [--model DIR [--prompts 6]]

`build` reads a synthetic MER-Caption+ with empty media files, because it opens no media: the time is for labels, texts,
look-ups, wheels and parquet. Each size runs in its own process; the peak memory is that of the process. `check` decodes
MER-Micro clips. For comparison, ffprobe counts the frames of the same videos and sounds, one file after another, as a
shell loop would. With --model, the peak memory of one agent worker's prompt cache on clips of 1920 × 1080: without a
limit in bytes, and with one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the repository, where it is not installed

CACHE_FPS, CACHE_FRAMES = 2.0, 16
REASON = "He looks down and speaks slowly while his voice trembles; the words say that he has lost something. " * 4


def make_corpus(folder: Path, rows: int) -> None:
    """MER-Caption+'s layout, `rows` clips; media are empty files."""
    base = folder / "mer2025-dataset"
    for kind in ("video", "audio"):
        (base / kind).mkdir(parents=True)
    names = [f"samplenew_{i:08d}" for i in range(rows)]
    for name in names:
        (base / "video" / f"{name}.mp4").touch()
        (base / "audio" / f"{name}.wav").touch()
    for file, header, text in (
        ("subtitle_chieng.csv", "name,chinese,english", "{},字幕,It is over now"),
        ("track2_train_mercaptionplus.csv", "name,openset", '{},"[sad, disappointed, helpless]"'),
        ("track3_train_mercaptionplus.csv", "name,reason", "{}," + f'"{REASON}"'),
    ):
        (base / file).write_text("\n".join([header, *map(text.format, names)]) + "\n", encoding="utf-8")


def build_once(root: Path, out: Path) -> None:
    """In a process of its own: one build; prints seconds and peak memory as JSON."""
    from data_prep import readers
    from data_prep.build import build
    from data_prep.options import Options
    from data_prep.places import Root

    start = time.perf_counter()
    manifest = build(readers.get("mer_caption_plus"), Root(root), out, Options(sft=min(500, 5_000)))
    seconds = time.perf_counter() - start
    # Not ru_maxrss: a child of fork and exec starts with its parent's.
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    print(json.dumps({"rows": sum(manifest["rows"].values()), "seconds": seconds, "peak_rss_mb": peak}))


def measure_build(rows: int) -> dict[str, Any]:
    """Seconds, rows a second and peak memory of a build of that size."""
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder) / "root", Path(folder) / "out"
        make_corpus(root, rows)
        command = [sys.executable, __file__, "--one-build", str(root), str(out)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    result = json.loads(done.stdout)
    return {**result, "rows_per_second": result["rows"] / result["seconds"]}


def measure_check(clips: int) -> dict[str, Any]:
    """Clips a second and core of `check` on MER-Micro, and of an ffprobe loop over the same files."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "micro"
        python = [sys.executable, "-m", "data_prep"]
        sizes = ["--clips", str(clips), "--test-clips", "1"]
        subprocess.run([*python, "micro", "--out", str(corpus), *sizes], check=True, capture_output=True)
        cores = len(os.sched_getaffinity(0))
        asked = ["--corpus", "micro", "--root", str(corpus), "--out", str(Path(folder) / "check")]
        seconds = _seconds([*python, "check", *asked, "--workers", str(cores)])
        again = _seconds([*python, "check", *asked, "--workers", str(cores)])
        start_up = _seconds([*python, "check", "--help"])
        loop = _ffprobe_loop(corpus)
    return {
        "clips": clips,
        "cores": cores,
        "seconds": seconds,
        "start_up_seconds": start_up,
        "clips_per_second_per_core": clips / (seconds - start_up) / cores,
        "second_run_seconds": again,
        "ffprobe_clips_per_second_per_core": clips / loop if loop else None,
    }


def cache_once(model: Path, clips: Path, gigabytes: float | None) -> None:
    """In a process of its own: encode all clips into a worker's cache; prints prompts kept and peak memory as JSON."""
    from transformers import AutoProcessor

    from verl_ext.data.encode import MediaConfig, PromptEncoder

    processor = AutoProcessor.from_pretrained(model)
    media = MediaConfig(fps=CACHE_FPS, max_frames=CACHE_FRAMES)
    encode = PromptEncoder(processor, media, cache_size=64, cache_gb=gigabytes)
    sizes = []
    for clip in sorted(clips.iterdir()):
        content = [{"type": "video", "video": str(clip)}, {"type": "text", "text": "?"}]
        sizes.append(encode([{"role": "user", "content": content}]).nbytes)
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    print(json.dumps({"cache_gb": gigabytes, "prompt_mb": sizes[0] / 1e6, "peak_rss_mb": peak}))


def measure_cache(model: Path, prompts: int) -> list[dict[str, Any]]:
    """Peak memory of a worker that has encoded that many prompts of 1080p: no limit, then 0.5 GB."""
    import numpy as np

    from data_prep.media import encode_mp4

    results = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(prompts):
            frames = [np.full((1080, 1920, 3), 10 * number + k, np.uint8) for k in range(CACHE_FRAMES)]
            data = encode_mp4(frames, int(CACHE_FPS), np.zeros(16_000, np.float32), 16_000)
            (Path(folder) / f"{number:03d}.mp4").write_bytes(data)
        for limit in ("none", "0.5"):
            command = [sys.executable, __file__, "--one-cache", str(model), folder, limit]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            results.append({"prompts": prompts, **json.loads(done.stdout.splitlines()[-1])})
    return results


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr or done.stdout)
    return time.perf_counter() - start


def _ffprobe_loop(corpus: Path) -> float | None:
    """Seconds of one ffprobe after another that decodes and counts every frame; None where there is no ffprobe."""
    if not (ffprobe := shutil.which("ffprobe")):
        return None
    count = [ffprobe, "-v", "error", "-threads", "1", "-count_frames", "-show_entries", "stream=nb_read_frames"]
    start = time.perf_counter()
    for kind in ("video", "audio"):
        for file in sorted((corpus / "train" / kind).iterdir()):
            subprocess.run([*count, str(file)], check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--rows", type=int, nargs="*", default=[1_000, 31_327, 100_000], help="sizes of the corpus to build"
    )
    parser.add_argument("--clips", type=int, default=200, help="clips to check; 0: none")
    parser.add_argument("--model", type=Path, help="a Qwen2.5-Omni folder: measure the prompt cache with its processor")
    parser.add_argument("--prompts", type=int, default=6, help="clips of 1080p that are encoded, with --model")
    parser.add_argument("--one-cache", nargs=3, metavar=("MODEL", "CLIPS", "GB"), help=argparse.SUPPRESS)
    parser.add_argument("--one-build", nargs=2, metavar=("ROOT", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one_build:
        build_once(*map(Path, arguments.one_build))
        return
    if arguments.one_cache:
        model, clips, limit = arguments.one_cache
        cache_once(Path(model), Path(clips), None if limit == "none" else float(limit))
        return
    result: dict[str, Any] = {"build": [measure_build(rows) for rows in arguments.rows]}
    if arguments.clips:
        result["check"] = measure_check(arguments.clips)
    if arguments.model:
        result["prompt_cache"] = measure_cache(arguments.model, arguments.prompts)
    if arguments.json:
        print(json.dumps(result, indent=1))
        return
    for row in result["build"]:
        print("{rows:8,} rows  {seconds:6.1f} s  {rows_per_second:8,.0f} rows/s  {peak_rss_mb:6.0f} MB".format(**row))
    for row in result.get("prompt_cache", []):
        limit = "no limit" if row["cache_gb"] is None else f"{row['cache_gb']:g} GB"
        print("{prompts} prompts of {prompt_mb:.0f} MB, peak {peak_rss_mb:.0f} MB".format(**row), f"({limit})")
    for key, value in result.get("check", {}).items():
        print(f"{key}: {value:.3g}" if value is not None else f"{key}: ffprobe is not installed")


if __name__ == "__main__":
    main()
