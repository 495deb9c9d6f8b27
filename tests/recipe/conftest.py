"""Fixtures of the recipe's tests: the wheels, and the official files where they are at hand."""

import os
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from recipe.mer_r1.method.wheel import EmotionWheels

# None of these tests is about time, and a busy machine would fail them at random.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
# `make mutants`: the same examples in every process, and no search for the smallest one that fails.
settings.register_profile(
    "mutants", settings.get_profile("patient"), phases=(Phase.explicit, Phase.generate), derandomize=True, database=None
)


@pytest.fixture(scope="session")
def shared():
    """The folder with the official wheels and the scorer's fixtures; others' data, never in the repository."""
    folder = Path(os.environ.get("MER_R1_SHARED") or Path(__file__).resolve().parents[2].parent / "shared")
    if not (folder / "emotion_wheel").is_dir():
        pytest.skip(f"no official wheel files: {folder}/emotion_wheel is absent (set MER_R1_SHARED)")
    return folder


@pytest.fixture(scope="session", params=["mer2025", "mer2026"])
def official(request, shared):
    """The official wheels of each rule set in turn."""
    return EmotionWheels.load(shared / "emotion_wheel" / request.param, rules=request.param)


@pytest.fixture(scope="session")
def builtin():
    return EmotionWheels.builtin()


@pytest.fixture(scope="session", params=["builtin", "mer2025", "mer2026"])
def any_wheels(request):
    """Every set of wheels: what must hold whatever the data."""
    if request.param == "builtin":
        return request.getfixturevalue("builtin")
    shared = request.getfixturevalue("shared")
    return EmotionWheels.load(shared / "emotion_wheel" / request.param, rules=request.param)


@pytest.fixture(scope="session")
def tiny():
    """A tokenizer of under 1024 tokens, as models made from scratch have one."""
    from verl_ext.models.tiny_tokenizer import train_tokenizer

    words = ("happy", "joyful", "sad", "angry", "surprised", "calm", "worried")
    texts = [f"<think>The face looks {word}.</think><answer>{word}, calm</answer>" for word in words]
    return train_tokenizer(texts, words, vocab_size=640)


@pytest.fixture(scope="session", params=["qwen", "tiny"])
def tokenizer(request):
    """The real vocabulary and a small one in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def answers(tmp_path):
    """Make a folder of answers, as `main_eval run` writes it: of a name, to a corpus."""
    from result_cases import write_answers

    def make(name, corpus, model="model", **changes):
        return write_answers(tmp_path / name, corpus, model=tmp_path / model, **changes)

    return make
