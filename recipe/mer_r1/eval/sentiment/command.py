"""One of positive, negative and neutral for each answer's emotion words; `main_eval score --task waf` scores them.

    python -m recipe.mer_r1.main_eval sentiment --answers slow.jsonl --out FILE.jsonl --mapper lexicon
    OPENAI_API_KEY=… python -m recipe.mer_r1.main_eval sentiment --answers slow.jsonl --out FILE.jsonl \\
        --mapper llm --endpoint URL --model NAME

Writes FILE.jsonl, a line an answer, and FILE.meta.json. A model's replies go to FILE.replies.jsonl as they come, so
that the same command goes on where it was. Exits with 1 where answers had no reply (the same command asks for them
again), with 2 where the input is at fault or the endpoint refuses everything, and with 130 when interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_prep.files import write_whole
from recipe.mer_r1.eval.errors import InputError
from recipe.mer_r1.eval.files import Source, read
from recipe.mer_r1.eval.judge import client
from recipe.mer_r1.eval.judge.cache import ReplyCache
from recipe.mer_r1.eval.judge.endpoint import check_endpoint, positive, read_key
from recipe.mer_r1.eval.judge.limiter import Limiter
from recipe.mer_r1.eval.judge.workers import for_each
from recipe.mer_r1.eval.sentiment import lexicon
from recipe.mer_r1.eval.sentiment.mapped import Mapped
from recipe.mer_r1.eval.sentiment.meta import ModelFacts, counts, lexicon_facts, meta
from recipe.mer_r1.eval.sentiment.model import Model
from recipe.mer_r1.eval.sentiment.prompts import WORDINGS, wording_hash

Words = dict[str, list[str]]


def parser(prog_name: str) -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=prog_name, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument(
        "--answers", required=True, type=Path, help="slow.jsonl or fast.jsonl, or word lists as `score --pred` reads"
    )
    result.add_argument("--out", required=True, type=Path, metavar="FILE.jsonl", help="sentiments, a line an answer")
    result.add_argument("--mapper", required=True, choices=("lexicon", "llm"), help="who tells the sentiment of words")
    llm = result.add_argument_group("with --mapper llm")
    llm.add_argument("--endpoint", help="base URL of an OpenAI-compatible server, such as …/v1")
    llm.add_argument("--model", help="its name there; the benchmark's is Qwen2.5-7B-Instruct")
    llm.add_argument("--prompt", choices=tuple(WORDINGS), default="paper", help="wording (default paper)")
    llm.add_argument("--temperature", type=float, default=0.0, help="default 0; the benchmark samples, unseeded")
    llm.add_argument("--seed", type=int, help="sent with each request; default: none, as some endpoints refuse it")
    llm.add_argument("--key-env", default="OPENAI_API_KEY", metavar="NAME", help="variable that holds the key")
    llm.add_argument("--concurrency", type=positive, default=8, help="answers at a time (default 8)")
    return result


def app(arguments: Sequence[str], prog_name: str = "main_eval sentiment") -> None:
    """The subcommand; the exit codes are in the module's text."""
    chosen = parser(prog_name).parse_args(arguments)
    try:
        found = run(chosen)
    except (ValueError, OSError) as error:  # InputError and the like are ValueErrors
        print(f"{prog_name}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print(f"{prog_name}: interrupted; the same command goes on where it was", file=sys.stderr)
        raise SystemExit(130) from None
    print(", ".join(f"{name.removeprefix('n_')} {count}" for name, count in found["counts"].items()))
    if found["failures"]:
        name, reason = next(iter(found["failures"].items()))
        print(
            f"{prog_name}: {len(found['failures'])} answers had no reply and are not in {chosen.out}; the same command "
            f"asks for them again. The first, {name!r}: {reason}",
            file=sys.stderr,
        )
        raise SystemExit(1)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Check, map, write the files; returns the content of FILE.meta.json.

    Raises:
        InputError: something that was given cannot be used.
    """
    _check(arguments)
    words = read(Source(arguments.answers, "words", predictions=True))
    failures: dict[str, str] = {}
    if arguments.mapper == "lexicon":
        table = lexicon.load()
        mapped = [lexicon.map_words(name, listed, table) for name, listed in words.items()]
        facts: dict[str, Any] = lexicon_facts(table)
    else:
        mapped, failures, facts = _by_model(arguments, words)
    found = meta(
        answers=str(arguments.answers.resolve()),
        answers_sha256=hashlib.sha256(arguments.answers.read_bytes()).hexdigest(),
        mapper=facts,
        counts=counts(mapped, len(words)),
        failures=failures,
    )
    lines = (json.dumps(one.line(), ensure_ascii=False) + "\n" for one in mapped)
    write_whole(arguments.out, "".join(lines).encode())
    write_whole(
        arguments.out.with_suffix(".meta.json"), json.dumps(found, indent=1, ensure_ascii=False).encode() + b"\n"
    )
    return found


def _check(arguments: argparse.Namespace) -> None:
    if arguments.out.suffix != ".jsonl":
        raise InputError(f"--out {arguments.out}: its name must end in .jsonl, as `main_eval score` reads it")
    if arguments.out.resolve() == arguments.answers.resolve():
        raise InputError("--out is the file of the answers; choose another name")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    given = [option for option in ("endpoint", "model") if getattr(arguments, option) is not None]
    if arguments.mapper == "lexicon" and given:
        raise InputError(f"--{given[0]} has no meaning for --mapper lexicon")
    if arguments.mapper == "llm" and len(given) < 2:
        raise InputError("--mapper llm needs --endpoint and --model")


def _by_model(arguments: argparse.Namespace, words: Words) -> tuple[list[Mapped], dict[str, str], dict[str, Any]]:
    """The mapped answers in the file's order, why the others have no reply, and who was asked."""
    endpoint, key = check_endpoint(arguments.endpoint), read_key(arguments.key_env)
    with ReplyCache(arguments.out.with_suffix(".replies.jsonl")) as cache:
        mapped, failures, served = asyncio.run(_ask(arguments, endpoint, key, cache, words))
    facts = ModelFacts(
        endpoint=endpoint,
        model=arguments.model,
        served_models=served,
        prompt=arguments.prompt,
        prompt_sha256=wording_hash(arguments.prompt),
        temperature=arguments.temperature,
        seed=arguments.seed,
    )
    return mapped, failures, {"name": "llm", **facts}


async def _ask(
    arguments: argparse.Namespace, endpoint: str, key: str, cache: ReplyCache, words: Words
) -> tuple[list[Mapped], dict[str, str], dict[str, int]]:
    caller = client.Client(endpoint, key, cache, Limiter(), client.POLICY)
    model = Model(caller, endpoint, arguments.model, arguments.prompt, arguments.temperature, arguments.seed)
    mapped: dict[str, Mapped] = {}
    failures: dict[str, str] = {}
    with tqdm(total=len(words), desc="mapped", unit="answer") as bar:

        async def one(name: str) -> None:
            try:
                mapped[name] = await model.map_words(name, words[name])
            except client.AskError as error:
                failures[name] = str(error)
            bar.update()

        try:
            await for_each(list(words), one, arguments.concurrency)
        finally:
            await caller.close()
    return [mapped[name] for name in words if name in mapped], failures, dict(sorted(model.served.items()))
