"""A benchmark of a few answers about one clip of three seconds, and the command that judges it."""

import json
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def write_clip(path):
    """Three seconds, 32 × 32 pixels, 4 frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for number in range(12):
            pixels = np.full((32, 32, 3), 20 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


class Case:
    """Files of a benchmark; `items` are (task, labels, response)."""

    def __init__(self, folder: Path, items):
        self.folder, self.out = folder, folder / "out"
        write_clip(folder / "clip.mp4")
        rows, answers, clues = [], [], []
        for index, (task, labels, response) in enumerate(items):
            name = f"SET/video/{index}"
            rows.append(
                {
                    "videos": ["clip.mp4"],
                    "reward_model": {"ground_truth": labels},
                    "extra_info": {"name": name, "group": task},
                }
            )
            answers.append({"index": index, "name": name, "labels": labels, "response": response})
            clues.append({"video_id": f"{name}.mp4", "audio_clue": f"Voice {index} is loud."})
        pq.write_table(pa.Table.from_pylist(rows), folder / "test.parquet")
        (folder / "slow.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
        (folder / "clues").mkdir()
        (folder / "clues" / "audio.json").write_text(json.dumps(clues))

    def arguments(self, url, *more):
        files = ["--answers", self.folder / "slow.jsonl", "--shard", self.folder / "test.parquet"]
        files += ["--clues", self.folder / "clues", "--media-root", self.folder, "--out", self.out]
        return [str(part) for part in ("judge", *files, "--endpoint", url, "--judge-model", "judge-1", *more)]

    def results(self):
        return json.loads((self.out / "results.json").read_text())

    def verdicts(self):
        return [json.loads(line) for line in (self.out / "verdicts.jsonl").read_text().splitlines()]
