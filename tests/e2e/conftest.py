"""A policy that answers (the tiny Thinker, taught a handful of responses by heart); a check that nothing stays."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from made_once import made_once
from rl_runs import SHARED_MEMORY, START_SECONDS, children, deterministic, reap, rings

from recipe.mer_r1.pipeline import process


@contextmanager
def watched() -> Iterator[Callable[..., None]]:
    """A check that all processes and rings which came since the beginning are gone; it waits some seconds for them."""
    process.adopt_orphans()
    processes, rings_before = children(), rings()

    def check(killed: bool = False, seconds: float = 90) -> None:
        """Where vLLM was killed, which cannot take its rings away then, they are removed; other tests wait for that."""
        deadline = time.monotonic() + seconds
        while True:
            reap()  # a Ray worker ends when its raylet is gone, and an adopted raylet stays as a zombie
            left = rings() - rings_before
            while killed and left:
                (SHARED_MEMORY / left.pop()).unlink(missing_ok=True)
            if not (children() - processes or left) or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        assert {child.pid: child.cmdline() for child in children() - processes} == {}
        assert left == set()

    yield check
    for child in children() - processes:  # not into the next test
        child.kill()
    reap()
    process.adopt_orphans(False)


@pytest.fixture
def nothing_stays() -> Iterator[Callable[..., None]]:
    """:func:`watched` since the test began."""
    with watched() as check:
        yield check


@pytest.fixture(scope="session")
def answering_model(micro_corpus, tiny_model, tmp_path_factory):
    """A policy whose sampled answers have words: see :mod:`answering_policy`."""
    import answering_policy

    make = partial(answering_policy.make, tiny_model, micro_corpus)
    return made_once(tmp_path_factory, "answering_model", make)


@pytest.fixture(scope="session")
def peace(micro_corpus, answering_model, tmp_path_factory):
    """The folder of a run to its end (:func:`rl_runs.deterministic`), with what it printed in ``printed``."""

    def make(out: Path) -> None:
        with watched() as nothing_stays:
            run = deterministic(out, answering_model, micro_corpus)
            assert run.wait(START_SECONDS) == 0
            nothing_stays()
        (out / "printed").write_text(run.text)

    return made_once(tmp_path_factory, "peace", make)
