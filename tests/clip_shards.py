"""A shard with a real clip, for pages that show its frames."""

import pyarrow as pa
from made_clips import film
from pyarrow import parquet


def one_clip_shard(folder, labels=("sad",), subtitle="Oh no."):
    """A shard of a clip of two seconds, and the clip's name."""
    clip = film(folder / "clip.mp4", [0.0, 0.5, 1.0, 1.5], [[(0.0, 1.92)]])
    row = {"videos": [str(clip)], "reward_model": {"ground_truth": list(labels)}}
    row |= {"extra_info": {"name": "clip_1", "subtitle": subtitle}}
    parquet.write_table(pa.Table.from_pylist([row]), folder / "shard.parquet")
    return folder / "shard.parquet", "clip_1"
