"""FILE.meta.json: who mapped the words and how often what came out."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, TypedDict, get_args

from recipe.mer_r1.eval.provenance import git_state, versions
from recipe.mer_r1.eval.sentiment.lexicon import PACKAGE
from recipe.mer_r1.eval.sentiment.mapped import Mapped, Status
from recipe.mer_r1.eval.sentiment.prompts import SENTIMENTS


class ModelFacts(TypedDict):
    """Everything that decides a model's replies, as far as it is known here."""

    endpoint: str
    model: str
    served_models: dict[str, int]
    """Replies by the name that the endpoint gave the model."""
    prompt: str
    prompt_sha256: str
    temperature: float
    seed: int | None


def lexicon_facts(lexicon: Mapping[str, float]) -> dict[str, Any]:
    """Which lexicon it was; its hash is over the sorted words and valences."""
    content = json.dumps(dict(lexicon), sort_keys=True).encode()
    return {
        "name": "lexicon",
        "package": PACKAGE,
        "version": version(PACKAGE),
        "words": len(lexicon),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


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


def meta(**facts: Any) -> dict[str, Any]:
    """The facts of a run, with the git state and the versions of what computed it."""
    return {"version": 1, **facts, "git": git_state(), "versions": versions("mer-r1", "openai", PACKAGE)}
