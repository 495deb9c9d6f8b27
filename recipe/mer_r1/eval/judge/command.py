"""Let a language model judge the answers to MME-Emotion, with two calls per answer.

    OPENAI_API_KEY=… python -m recipe.mer_r1.main_eval judge --answers slow.jsonl --shard test.parquet \\
        --clues DIR --endpoint URL --judge-model NAME

Writes each reply to OUT/replies.jsonl at once, so that the same command continues an interrupted run; then
OUT/verdicts.jsonl, one line per answer, and OUT/results.json. The default OUT is slow.judge beside slow.jsonl, where
`main_eval report` reads it. Exit code 1: some answers got no reply (run the same command again to ask again);
2: the input is wrong or the endpoint refuses all requests; 130: interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from recipe.mer_r1.eval.judge import client, frames, questions
from recipe.mer_r1.eval.judge.cache import ReplyCache
from recipe.mer_r1.eval.judge.endpoint import check_endpoint, positive, read_key
from recipe.mer_r1.eval.judge.files import judge_folder, write_judged
from recipe.mer_r1.eval.judge.judging import Judge
from recipe.mer_r1.eval.judge.limiter import Limiter
from recipe.mer_r1.eval.judge.prompts import prompt_hash
from recipe.mer_r1.eval.judge.results import Results, by_task, summarize, table
from recipe.mer_r1.eval.judge.verdict import Verdict
from recipe.mer_r1.files import exits
from recipe.mer_r1.files.provenance import git_state, versions

_LIBRARIES = ("mer-r1", "openai", "pydantic", "av", "pillow")


def parser(prog_name: str) -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=prog_name, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--answers", required=True, type=Path, help="slow.jsonl or fast.jsonl of `main_eval run`")
    result.add_argument("--shard", required=True, type=Path, help="the shard that was answered")
    result.add_argument(
        "--media-root", type=Path, help="folder that the shard's relative paths start from; default: its own"
    )
    result.add_argument("--clues", required=True, nargs="+", type=Path, help="files with audio clues, or their folders")
    result.add_argument("--endpoint", required=True, help="base URL of an OpenAI-compatible server, such as …/v1")
    result.add_argument("--judge-model", required=True, help="the model that rates the steps; it must see images")
    result.add_argument("--extractor-model", help="the model that splits answers into steps; default: the judge")
    result.add_argument("--key-env", default="OPENAI_API_KEY", metavar="NAME", help="environment variable with the key")
    result.add_argument(
        "--out", type=Path, help="folder for replies, verdicts and results.json; default: slow.judge beside slow.jsonl"
    )
    result.add_argument(
        "--concurrency", type=positive, default=8, help="number of answers judged at the same time (default 8)"
    )
    result.add_argument("--requests-per-minute", type=positive, metavar="N", help="limit; default: none")
    result.add_argument(
        "--seed", type=int, help="seed sent with each request; default: none (some endpoints refuse it)"
    )
    result.add_argument("--limit", type=positive, help="only the first N answers")
    return result


def app(arguments: Sequence[str], prog_name: str = "main_eval judge") -> None:
    """The subcommand; the exit codes are in the module's text."""
    chosen = parser(prog_name).parse_args(arguments)
    chosen.out = chosen.out or judge_folder(chosen.answers)
    with exits.input_faults(prog_name, ValueError, OSError):  # InputError, ShardError and the like are ValueErrors
        results = run(chosen)
    print(table(results))
    if failed := results.overall.n_failed:
        print(
            f"{prog_name}: {failed} answers could not be judged and are not in the scores; see the reasons in "
            f"{chosen.out / 'verdicts.jsonl'}, and run the same command again to retry them",
            file=sys.stderr,
        )
        raise SystemExit(exits.FAILED)


def run(arguments: argparse.Namespace) -> Results:
    """Check, ask what is missing, write the files.

    Raises:
        InputError: something that was given cannot be used.
    """
    endpoint, key = check_endpoint(arguments.endpoint), read_key(arguments.key_env)
    rows = questions.read_rows(arguments.shard, arguments.media_root)
    answers = questions.read_answers(arguments.answers)[: arguments.limit]
    asked = questions.join(answers, rows, questions.read_clues(arguments.clues))
    with ReplyCache(arguments.out / "replies.jsonl") as cache:
        verdicts, served = asyncio.run(_judge(arguments, endpoint, key, cache, asked))
    results = Results(
        answers=str(arguments.answers.resolve()),
        answers_sha256=hashlib.sha256(arguments.answers.read_bytes()).hexdigest(),
        shard=str(arguments.shard.resolve()),
        shard_rows=len(rows),
        limit=arguments.limit,
        endpoint=endpoint,
        judge_model=arguments.judge_model,
        extractor_model=arguments.extractor_model or arguments.judge_model,
        served_models=served,
        temperature=0.0,
        seed=arguments.seed,
        prompt_sha256=prompt_hash(),
        frames={"fps": frames.FPS, "max": frames.MAX_FRAMES, "longest_side": frames.LONGEST_SIDE},
        git=git_state(),
        versions=versions(*_LIBRARIES),
        overall=summarize(verdicts),
        tasks=by_task(verdicts),
    )
    write_judged(arguments.out, results, verdicts)
    return results


async def _judge(
    arguments: argparse.Namespace, endpoint: str, key: str, cache: ReplyCache, asked: list[questions.Question]
) -> tuple[list[Verdict], dict[str, int]]:
    caller = client.Client(endpoint, key, cache, Limiter(arguments.requests_per_minute), client.POLICY)
    judge = Judge(
        caller, endpoint, arguments.judge_model, arguments.extractor_model or arguments.judge_model, arguments.seed
    )
    try:
        with tqdm(total=len(asked), desc="judged", unit="answer") as bar:
            verdicts = await judge.all(asked, arguments.concurrency, _progress(bar))
    finally:
        await caller.close()
    return verdicts, dict(sorted(judge.served.items()))


def _progress(bar: tqdm) -> Callable[[Verdict], None]:
    counts: Counter[str] = Counter()

    def done(verdict: Verdict) -> None:
        counts[verdict.status] += 1
        bar.set_postfix(counts, refresh=False)
        bar.update()

    return done
