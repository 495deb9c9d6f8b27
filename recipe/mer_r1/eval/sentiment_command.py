"""Map the emotion words of each answer to positive, negative or neutral; `main_eval report` computes WAF from them.

    python -m recipe.mer_r1.main_eval sentiment --answers RESULT_DIR --mapper lexicon
    OPENAI_API_KEY=… python -m recipe.mer_r1.main_eval sentiment --answers RESULT_DIR \\
        --mapper llm --endpoint URL --model NAME

In a folder, the answers of all modes are mapped: slow.jsonl to slow.sentiment.jsonl, one line per answer, and
slow.sentiment.meta.json. RESULT_DIR is a corpus in the --out folder of `main_eval run`, or that folder: then the
corpora with WAF (MOSI, MOSEI, SIMS, SIMSv2) are mapped. Each reply of a model is written to
slow.sentiment.replies.jsonl at once, so that the same command continues an interrupted run. Exit code 1: some answers
got no reply (run the same command again to ask again); 2: the input is wrong or the endpoint refuses all requests;
130: interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from recipe.mer_r1.eval.answer_modes import MODES
from recipe.mer_r1.eval.answers import folders_of_tasks, has_samples
from recipe.mer_r1.eval.judge import client
from recipe.mer_r1.eval.judge.cache import ReplyCache
from recipe.mer_r1.eval.judge.endpoint import check_endpoint, positive, read_key
from recipe.mer_r1.eval.judge.limiter import Limiter
from recipe.mer_r1.eval.judge.workers import for_each
from recipe.mer_r1.eval.sentiment import files, lexicon
from recipe.mer_r1.eval.sentiment.mapped import Mapped
from recipe.mer_r1.eval.sentiment.meta import Mapper, Meta, ModelMapper, counts, lexicon_mapper
from recipe.mer_r1.eval.sentiment.model import Model
from recipe.mer_r1.eval.sentiment.prompts import WORDINGS, wording_hash
from recipe.mer_r1.files import exits
from recipe.mer_r1.files.errors import SEVERAL_ANSWERS, InputError
from recipe.mer_r1.files.labels import Source, read
from recipe.mer_r1.files.provenance import git_state, versions

Words = dict[str, list[str]]


def parser(prog_name: str) -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=prog_name, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument(
        "--answers",
        required=True,
        type=Path,
        metavar="DIR|FILE",
        help="--out folder of `main_eval run`, one corpus in it, one of its files, or word lists as for `score --pred`",
    )
    result.add_argument(
        "--out",
        type=Path,
        metavar="FILE.jsonl",
        help="output for one file of answers; default: its name with .sentiment.jsonl",
    )
    result.add_argument(
        "--mapper",
        required=True,
        choices=("lexicon", "llm"),
        help="maps words to sentiment: a lexicon or a language model",
    )
    llm = result.add_argument_group("with --mapper llm")
    llm.add_argument("--endpoint", help="base URL of an OpenAI-compatible server, such as …/v1")
    llm.add_argument("--model", help="the model's name on the server; the benchmark uses Qwen2.5-7B-Instruct")
    llm.add_argument("--prompt", choices=tuple(WORDINGS), default="paper", help="prompt wording (default paper)")
    llm.add_argument("--temperature", type=float, default=0.0, help="default 0; the benchmark samples without a seed")
    llm.add_argument("--seed", type=int, help="seed sent with each request; default: none (some endpoints refuse it)")
    llm.add_argument("--key-env", default="OPENAI_API_KEY", metavar="NAME", help="environment variable with the key")
    llm.add_argument(
        "--concurrency", type=positive, default=8, help="number of answers mapped at the same time (default 8)"
    )
    return result


def app(arguments: Sequence[str], prog_name: str = "main_eval sentiment") -> None:
    """The subcommand; the exit codes are in the module's text."""
    chosen = parser(prog_name).parse_args(arguments)
    with exits.input_faults(prog_name, ValueError, OSError):  # InputError and the like are ValueErrors
        found = run(chosen)
    for out, meta in found.items():
        print(f"{out}:", ", ".join(f"{name.removeprefix('n_')} {count}" for name, count in meta.counts.items()))
    for out, meta in found.items():
        if meta.failures:
            name, reason = next(iter(meta.failures.items()))
            print(
                f"{prog_name}: {len(meta.failures)} answers got no reply and are not in {out}; run the same command "
                f"again to ask again. The first, {name!r}: {reason}",
                file=sys.stderr,
            )
    if any(meta.failures for meta in found.values()):
        raise SystemExit(exits.FAILED)


def run(arguments: argparse.Namespace) -> dict[Path, Meta]:
    """Check, map, write the files; returns what was written and the content of its FILE.meta.json.

    Raises:
        InputError: something that was given cannot be used.
    """
    _check_mapper(arguments)
    words = {answers: _read(answers) for answers in _answers(arguments.answers)}
    found = {}
    for answers, (digest, listed) in words.items():
        out = arguments.out or files.sentiment_path(answers)
        _check_out(out, answers)
        mapped, failures, mapper = _map(arguments, out, listed)
        found[out] = Meta(
            answers=str(answers.resolve()),
            answers_sha256=digest,
            mapper=mapper,
            counts=counts(mapped, len(listed)),
            failures=failures,
            git=git_state(),
            versions=versions("mer-r1", "openai", lexicon.PACKAGE),
        )
        files.write(out, mapped, found[out])
    return found


def _answers(given: Path) -> list[Path]:
    """The files to map: the one given, or all modes of the folders, without those with several answers per clip."""
    if not given.is_dir():
        return [given]
    folders = folders_of_tasks(given, ("waf",), "sentiment")
    found = [path for folder in folders for mode in MODES if (path := folder / f"{mode}.jsonl").is_file()]
    if not found:
        raise InputError(
            f"--answers {given}: no answers in this folder ({', '.join(f'{mode}.jsonl' for mode in MODES)})"
        )
    several = [path for path in found if has_samples(path)]
    if len(several) == len(found):
        raise InputError(f"{several[0]} {SEVERAL_ANSWERS}")
    for path in several:
        print(f"{path} is left out: it {SEVERAL_ANSWERS}", file=sys.stderr)
    return [path for path in found if path not in several]


def _read(answers: Path) -> tuple[str, Words]:
    """The file's sha256, taken before its words so that a file that grows meanwhile shows as changed; its words."""
    digest = hashlib.sha256(answers.read_bytes()).hexdigest() if answers.is_file() else ""
    return digest, read(Source(answers, "words", predictions=True))


def _check_mapper(arguments: argparse.Namespace) -> None:
    if arguments.out and arguments.answers.is_dir():
        raise InputError("--out needs one file of answers; for a folder, the sentiments are written into the folder")
    given = [option for option in ("endpoint", "model") if getattr(arguments, option) is not None]
    if arguments.mapper == "lexicon" and given:
        raise InputError(f"--{given[0]} cannot be used with --mapper lexicon")
    if arguments.mapper == "llm" and len(given) < 2:
        raise InputError("--mapper llm needs --endpoint and --model")


def _check_out(out: Path, answers: Path) -> None:
    if out.suffix != ".jsonl":
        raise InputError(f"--out {out}: the file name must end in .jsonl, because `main_eval score` reads it")
    if out.resolve() == answers.resolve():
        raise InputError("--out is the file of the answers; choose another file")
    out.parent.mkdir(parents=True, exist_ok=True)


def _map(arguments: argparse.Namespace, out: Path, words: Words) -> tuple[list[Mapped], dict[str, str], Mapper]:
    """The mapped answers in the file's order, why the others have no reply, and who mapped."""
    if arguments.mapper == "lexicon":
        table = lexicon.load()
        return [lexicon.map_words(name, listed, table) for name, listed in words.items()], {}, lexicon_mapper(table)
    return _by_model(arguments, out, words)


def _by_model(
    arguments: argparse.Namespace, out: Path, words: Words
) -> tuple[list[Mapped], dict[str, str], ModelMapper]:
    endpoint, key = check_endpoint(arguments.endpoint), read_key(arguments.key_env)
    with ReplyCache(out.with_suffix(".replies.jsonl")) as cache:
        mapped, failures, served = asyncio.run(_ask(arguments, endpoint, key, cache, words))
    mapper = ModelMapper(
        endpoint=endpoint,
        model=arguments.model,
        served_models=served,
        prompt=arguments.prompt,
        prompt_sha256=wording_hash(arguments.prompt),
        temperature=arguments.temperature,
        seed=arguments.seed,
    )
    return mapped, failures, mapper


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
