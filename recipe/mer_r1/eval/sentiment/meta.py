"""FILE.meta.json: who mapped the words and how often what came out."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from recipe.mer_r1.eval.sentiment.lexicon import PACKAGE
from recipe.mer_r1.eval.sentiment.mapped import Mapped, Status
from recipe.mer_r1.eval.sentiment.prompts import SENTIMENTS


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LexiconMapper(_Model):
    """Which lexicon it was; its hash is over the sorted words and valences."""

    name: Literal["lexicon"] = "lexicon"
    package: str
    version: str
    words: int
    sha256: str

    @property
    def identity(self) -> dict[str, Any]:
        """What must agree for two WAFs to be compared."""
        return {"mapper": f"lexicon {self.package} {self.version} ({self.sha256[:12]})"}


class ModelMapper(_Model):
    """Everything that decides a model's replies, as far as it is known here."""

    name: Literal["llm"] = "llm"
    endpoint: str
    model: str
    served_models: dict[str, int]
    """Replies by the name that the endpoint gave the model."""
    prompt: str
    prompt_sha256: str
    temperature: float
    seed: int | None

    @property
    def identity(self) -> dict[str, Any]:
        """What must agree for two WAFs to be compared. Without a reply, nobody knows what model served."""
        served = {"served as": ", ".join(sorted(self.served_models))} if self.served_models else {}
        prompt = f"{self.prompt} ({self.prompt_sha256[:12]})"
        return {"mapper": f"llm {self.model}", **served, "prompt": prompt, "temperature": self.temperature}


Mapper = Annotated[LexiconMapper | ModelMapper, Field(discriminator="name")]


class Meta(_Model):
    """A run of the mapper on one file of answers; `failures` are the answers without a reply, and why."""

    version: Literal[1] = 1
    answers: str
    answers_sha256: str
    mapper: Mapper
    counts: dict[str, int]
    failures: dict[str, str]
    git: str | None
    versions: dict[str, str]


def lexicon_mapper(lexicon: Mapping[str, float]) -> LexiconMapper:
    """The mapper that a lexicon is, with the installed package's version."""
    content = json.dumps(dict(lexicon), sort_keys=True).encode()
    return LexiconMapper(
        package=PACKAGE,
        version=version(PACKAGE),
        words=len(lexicon),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def counts(mapped: Sequence[Mapped], answers: int) -> dict[str, int]:
    """`n` answers, those without a reply, each sentiment's, and those that were not mapped at once."""
    sentiments = Counter(one.sentiment for one in mapped)
    statuses = Counter(one.status for one in mapped)
    return {
        "n": answers,
        "n_failed": answers - len(mapped),
        **{f"n_{sentiment}": sentiments[sentiment] for sentiment in SENTIMENTS},
        **{f"n_{status}": statuses[status] for status in get_args(Status) if status != "mapped"},
    }
