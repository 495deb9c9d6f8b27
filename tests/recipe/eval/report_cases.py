"""What `main_eval sentiment` and `main_eval judge` add to folders of answers, the judge's replies made up."""

import csv
import hashlib
import json
from pathlib import Path

from recipe.mer_r1 import main_eval
from recipe.mer_r1.eval.judge.files import judge_folder, write_judged
from recipe.mer_r1.eval.judge.results import TABLE_ORDER, Results, by_task, summarize
from recipe.mer_r1.eval.judge.verdict import Verdict


def map_sentiment(folder: Path) -> Path:
    """Map all answers of a folder by the lexicon."""
    main_eval.main(["sentiment", "--answers", str(folder), "--mapper", "lexicon"])
    return folder


def remap(folder: Path, **changes) -> Path:
    """Say that another mapper mapped."""
    for path in folder.glob("*.sentiment.meta.json"):
        meta = json.loads(path.read_text())
        path.write_text(json.dumps(meta | {"mapper": meta["mapper"] | changes}))
    return folder


def verdicts(folder: Path, mode: str, statuses=()) -> list[Verdict]:
    """A verdict a line: recognition and reasoning are tenths by the task's place; the first have `statuses`."""
    found = []
    for line in map(json.loads, (folder / f"{mode}.jsonl").read_text().splitlines()):
        task = TABLE_ORDER[line["index"]]
        status = statuses[len(found)] if len(found) < len(statuses) else "scored"
        share = line["index"] / 10
        scores = {"recognition": share, "reasoning": 1 - share / 2} if status == "scored" else {}
        found.append(Verdict(index=line["index"], name=line["name"], task=task, status=status, **scores))
    return found


def judge(folder: Path, mode: str, *, statuses=(), **changes) -> Path:
    """As `main_eval judge` leaves a mode of a folder; `changes` are of its results.json."""
    answers, given = folder / f"{mode}.jsonl", verdicts(folder, mode, statuses)
    results = Results(
        answers=str(answers),
        answers_sha256=hashlib.sha256(answers.read_bytes()).hexdigest(),
        shard=str(folder / "shard" / "test.parquet"),
        shard_rows=len(TABLE_ORDER),
        limit=None,
        endpoint="http://localhost/v1",
        judge_model="judge-1",
        extractor_model="judge-1",
        served_models={"served-1": 2 * len(given)},
        temperature=0.0,
        seed=None,
        prompt_sha256="a" * 64,
        frames={"fps": 1.0, "max": 10, "longest_side": 768},
        git=None,
        versions={},
        overall=summarize(given),
        tasks=by_task(given),
    )
    write_judged(judge_folder(answers), results.model_copy(update=changes), given)
    return folder


def table(folder: Path, number: int) -> list[dict[str, str]]:
    """The rows of a table that the report below `folder` wrote."""
    return list(csv.DictReader((folder / "out" / f"table_{number}.csv").open(encoding="utf-8")))
