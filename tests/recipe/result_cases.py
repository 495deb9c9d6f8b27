"""Folders as `main_eval run` writes them, made without a model."""

import json
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from recipe.mer_r1.eval import records
from recipe.mer_r1.eval.corpora import SENTIMENT
from recipe.mer_r1.eval.fingerprints import weights_sha256
from recipe.mer_r1.eval.judge.results import TABLE_ORDER
from recipe.mer_r1.method.wheel import EmotionWheels

BUILTIN = EmotionWheels.builtin()
LABELS = (["happy"], ["sad"], ["angry"], ["happy"], ["surprised"], ["neutral"])
SLOW = ("happy", "sad", "sad", "happy", "", "calm")
SENTIMENTS = (["positive"], ["negative"], ["negative"], ["positive"], ["positive"], ["neutral"])
FAST = ("happy, sad", "sad, angry", "angry, sad", "happy", "surprised, happy", "happy")


def rows_of(corpus: str) -> list[tuple[str, str, list[str]]]:
    """Data source, name and labels of a corpus's rows; MME-Emotion has one a task, the last two about one clip."""
    if corpus == "mme_emotion":
        return [(f"{corpus}/{task}", f"clip_{min(n, 6)}", ["happy"]) for n, task in enumerate(TABLE_ORDER)]
    return [(corpus, f"clip_{n}", labels) for n, labels in enumerate(SENTIMENTS if corpus in SENTIMENT else LABELS)]


def write_shard(path: Path, corpus: str, prompt: str = "What does the person feel?") -> Path:
    """A shard's columns that results are made of."""
    rows = [
        {
            "data_source": source,
            "prompt": [{"role": "user", "content": prompt}],
            "reward_model": {"style": "rule", "ground_truth": labels},
            "extra_info": {"name": name, "split": "test"},
        }
        for source, name, labels in rows_of(corpus)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_answers(
    folder: Path,
    corpus: str,
    *,
    model: Path,
    clips: int | None = None,
    modes=("slow", "fast"),
    samples: int = 1,
    prompt="?",
    **changes,
) -> Path:
    """A folder of answers to the first `clips` rows (None: all); `changes` are of its settings.

    A sampled mode's first sample has the words of SLOW or FAST, and each further sample those of the clip after it.
    """
    shard = write_shard(folder / "shard" / "test.parquet", corpus, prompt)
    model.mkdir(parents=True, exist_ok=True)
    weights = model / "model.safetensors"
    if not weights.exists():
        weights.write_bytes(model.name.encode() * 20_000)
    settings = {
        "model": str(model),
        "shard": str(shard),
        "media_root": None,
        "weights_sha256": weights_sha256(model),
        "corpus": corpus.split("/")[0],
        "split": "test",
        "n_shard": len(rows_of(corpus)),
        "clips_sha256": corpus,
        "temperature": 0.0,
        "max_tokens": 64,
        "max_prompt_length": 192,
        "media": {"fps": 2.0, "max_frames": 4},
        "dtype": "float32",
        "seed": 0,
        "wheels": BUILTIN.identity,
    }
    records.claim(folder, settings | changes)
    for mode in modes:
        given = SLOW if mode.startswith("slow") else FAST
        for index, (source, name, labels) in enumerate(rows_of(corpus)[:clips]):
            row = {
                "data_source": source,
                "prompt": prompt,
                "reward_model": {"ground_truth": labels},
                "extra_info": {"name": name},
            }
            for sample in range(samples if mode.endswith("_sampled") else 1):
                response = f"<think>so</think><answer>{given[(index + sample) % len(given)]}</answer>"
                line = records.record(row, index, response, BUILTIN, sample)
                records.append(folder / f"{mode}.jsonl", [line | {"tokens": 4, "finished": True}])
    (folder / "scores.json").write_text(
        json.dumps({"modes": {}, "starts": [{"git": "abc", "versions": {"vllm": "0"}}]})
    )
    return folder
