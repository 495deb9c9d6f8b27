"""The result of one model on one set of clips in one mode, as `main_eval report` writes it to results.json."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from recipe.mer_r1.eval.judge.results import Results as Judged
from recipe.mer_r1.eval.sentiment.meta import Mapper
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.files.whole import write_whole

SCHEMA_VERSION = 4
RESULTS = "results.json"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Metric(_Model):
    """A number and its 95 % bootstrap interval over clips; None where it is undefined or could not be computed."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Wheels(_Model):
    """Which wheels scored, and whether an undefined score is NaN (mer2025) or 0 (mer2026)."""

    name: str
    version: str
    sha256: str
    rules: str


class Origin(_Model):
    """The commit ("+dirty" where files differ from it; None outside a checkout) and the versions of packages."""

    git: str | None
    versions: dict[str, str]


class Sampling(_Model):
    """How answers were sampled; `max_tokens` of a response, `max_prompt_length` in tokens."""

    temperature: float
    seed: int
    max_tokens: int
    max_prompt_length: int
    dtype: str


class Reading(_Model):
    """How category confidences were read; `floor` in nats, `precision` as of `mixed_precision.param_dtype`.

    `words` says what V(c) of Eq. 1 holds: all words that the wheel maps to c, or, in files of version 0.1.0, only the
    wheel's own words.
    """

    words: Literal["mapped", "wheel"] = "wheel"
    shared_tokens: str
    floor: float
    precision: str


class Result(_Model):
    """One model, one set of clips, one mode.

    Attributes:
        corpus: the shard's `data_source`.
        mode: slow, fast, slow_sampled or fast_sampled.
        model: folder of the weights.
        weights_sha256: of samples of the weight files (`fingerprints.weights_sha256`).
        names_sha256: of the sorted names of the clips.
        prompt_sha256: of names and hashes of the clips' prompts, in the order of their names.
        labels_sha256: of names and true labels, in the same order.
        form: of a response; of answer_think_answer, fast is the first answer of the slow response.
        samples: answers per clip; a clip counts with the mean over its answers.
        n: clips that were asked for, failed ones too.
        n_shard: clips of the whole shard; more than `n` where a run had a limit or was cut off.
        n_failed: clips that miss an answer, which counts as wrong; the lines of the answers say why.
        n_empty: answers without a word, failed ones too; they score 0, but for WAF: no word is neutral.
        metrics: F, P, R, hit, waf, cot, recognition, reasoning in 0..1 (MME-Emotion besides: cot/TASK, and the strict
            scores as strict/TASK, strict/cot and so on); categories: mean number of an answer's
            categories on a wheel; truth and margin: confidence on the true categories and Eq. 2's margin in nats,
            absent where not read.
        sentiment: who mapped the words for waf.
        judged: MME-Emotion's scores by task, and who gave them.
        reading: how confidences were read.
        unread: why truth and margin are absent, and the command that reads them.
        notes: why a metric is None.
        generated: what made the answers: several where a run went on with other versions, none where its scores.json is
            missing.
        scored: what computed the metrics.
    """

    corpus: str
    split: str
    mode: str
    model: str
    weights_sha256: str
    names_sha256: str
    prompt_sha256: str
    labels_sha256: str
    media: dict[str, Any]
    sampling: Sampling
    form: str
    samples: int
    wheels: Wheels
    n: int
    n_shard: int
    n_failed: int
    n_empty: int
    metrics: dict[str, Metric]
    sentiment: Mapper | None = None
    judged: Judged | None = None
    reading: Reading | None = None
    unread: str | None = None
    notes: tuple[str, ...] = ()
    generated: tuple[Origin, ...]
    scored: Origin

    @property
    def partial(self) -> bool:
        """Whether clips of the shard have no answer: such a result stands for no corpus."""
        return self.n < self.n_shard


class FolderResults(_Model):
    """All modes of one folder, and what is made of slow and fast answers together.

    Attributes:
        gaps: metric → fast less slow, resampled together; in the metric's unit.
        retained_hit: share of the fast answers' true categories that the slow answers still name, in 0..1.
    """

    schema_version: Literal[4] = SCHEMA_VERSION
    results: tuple[Result, ...]
    gaps: dict[str, Metric] = {}
    retained_hit: Metric | None = None

    def mode(self, name: str) -> Result | None:
        """The result of a mode, None where it was not made."""
        return next((result for result in self.results if result.mode == name), None)


# What must agree for two numbers to stand beside each other at all, and the way to put it into words.
_ALWAYS: dict[str, Callable[[Result], Any]] = {
    "wheels": lambda result: f"{result.wheels.name} {result.wheels.version} ({result.wheels.sha256[:12]})",
    "rules": lambda result: result.wheels.rules,
    "media": lambda result: result.media,
    "temperature": lambda result: result.sampling.temperature,
    "max_tokens": lambda result: result.sampling.max_tokens,
    # Decides which clips are too long, and so count as wrong.
    "max_prompt_length": lambda result: result.sampling.max_prompt_length,
}
# Who judged or mapped and how confidences were read, which must agree where both results have it.
_SCORERS: dict[str, Callable[[Result], dict[str, Any] | None]] = {
    "sentiment": lambda result: result.sentiment and result.sentiment.identity,
    "judge": lambda result: result.judged and result.judged.identity,
    "confidence": lambda result: result.reading and result.reading.model_dump(),
}
# What must agree too where both are said to be of the same clips.
_SAME_CLIPS: dict[str, Callable[[Result], Any]] = {
    "corpus": lambda result: result.corpus,
    "split": lambda result: result.split,
    "n": lambda result: result.n,
    "sample names": lambda result: result.names_sha256[:12],
    "prompts": lambda result: result.prompt_sha256[:12],
    "true labels": lambda result: result.labels_sha256[:12],
}


def why_not_comparable(one: Result, other: Result, *, same_clips: bool = True) -> list[str]:
    """Reasons against setting two results beside each other, none where there are none.

    Args:
        same_clips: False where the two are of different corpora by intention, as the cells of one row of a table are.
    """
    checks = _ALWAYS | (_SAME_CLIPS if same_clips else {})
    found = ((what, of(one), of(other)) for what, of in checks.items())
    reasons = [f"{what}: {_difference(here, there)}" for what, here, there in found if here != there]
    return reasons + why_scored_apart(one, other)


def why_scored_apart(one: Result, other: Result) -> list[str]:
    """Reasons why their WAFs, CoTs or confidences are not comparable: other mappers, judges or ways of reading.

    None where one has none.
    """
    reasons = []
    for what, of in _SCORERS.items():
        here, there = of(one) or {}, of(other) or {}
        shared = here.keys() & there.keys()
        here, there = ({key: facts[key] for key in shared} for facts in (here, there))
        if here != there:
            reasons.append(f"{what}: {_difference(here, there)}")
    return reasons


def _difference(here: Any, there: Any) -> str:
    """Of two mappings only the keys that differ."""
    if not isinstance(here, dict) or not isinstance(there, dict):
        return f"{here} and {there}"
    keys = [key for key in sorted({*here, *there}) if here.get(key) != there.get(key)]
    return ", ".join(f"{key} {here.get(key)} and {there.get(key)}" for key in keys)


def write_results(folder: Path, results: FolderResults) -> None:
    """Write FOLDER/results.json."""
    write_whole(folder / RESULTS, results.model_dump_json(indent=1).encode() + b"\n")


def read_results(folder: Path) -> FolderResults:
    """Read FOLDER/results.json.

    Raises:
        InputError: it is missing, is not JSON, has another schema version, or lacks something; names the first fault.
    """
    path = folder / RESULTS
    if not path.is_file():
        raise InputError(f"{folder}: has no answers of `main_eval run` and no {RESULTS}")
    try:
        return FolderResults.model_validate_json(path.read_bytes())
    except ValidationError as error:
        faults = error.errors()
        if ("judge_model",) in (fault["loc"] for fault in faults):
            raise InputError(
                f"{path}: this is the result of a judge; give the folder of the answers that were judged"
            ) from error
        versions = [fault["input"] for fault in faults if fault["loc"] == ("schema_version",)]
        if versions:
            raise InputError(
                f"{path}: schema version {versions[0]!r}, but {SCHEMA_VERSION} is needed; make it again from answers"
            ) from error
        where = ".".join(map(str, faults[0]["loc"])) or "the file"
        raise InputError(f"{path}: {where}: {faults[0]['msg']}") from error
