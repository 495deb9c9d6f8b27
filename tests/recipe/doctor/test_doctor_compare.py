"""The comparison in bfloat16: a vLLM that is right passes, and faults that are put into transformers' side do not.

One run of vLLM serves all of these tests. The faults are those of `benchmarks/doctor_agreement.py`.
"""

import importlib.util
from pathlib import Path

import pytest

from recipe.mer_r1.doctor import agreement, compare

pytestmark = pytest.mark.seam


@pytest.fixture(scope="module")
def sides(tiny_model):
    path = Path(__file__).resolve().parents[3] / "benchmarks" / "doctor_agreement.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    return benchmark.Sides(str(tiny_model), "tiny")


def judged(sides, fault=None):
    found = {"dtype": "bfloat16", "tokens": len(sides.log_probs), "noise": sides.noise, "gap": sides.gap(fault)}
    return agreement.judge_gap(found)


def test_what_is_compared(sides):
    answers = sides.answers
    assert [len(answer.token_ids) <= compare.TOKENS for answer in answers] == [True] * (1 + compare.SAMPLED)
    assert len({tuple(answer.token_ids) for answer in answers}) == 1 + compare.SAMPLED, "each seed is another answer"
    assert all(answer.prompt_ids == sides.encoded.prompt_ids for answer in answers)
    assert 1e-3 < sides.noise["mean"] < 1e-2, "bfloat16 rounds"


def test_a_correct_vllm_passes(sides):
    seen, good = judged(sides)
    assert good, seen


@pytest.mark.parametrize("fault", ["another clip", "weights with 1 % noise", "M-RoPE left out", "response one later"])
def test_a_fault_is_seen(sides, fault):
    seen, good = judged(sides, fault)
    assert not good, seen


def test_float32_has_no_rounding_to_be_measured_against(sides):
    exact, rounded = sides.train(sides.encoded, "float32")
    assert rounded is None
    gap = compare.distance(exact, sides.exact)
    assert 0 < gap["max"] < 0.05, "its weights are not rounded, and those of the other are"


def test_distance_keeps_nan():
    found = compare.distance([0.0, float("nan"), 3.0], [1.0, 1.0, 1.0])
    assert str(found) == "{'mean': nan, 'max': nan}"
    assert compare.distance([0.0, 4.0], [1.0, 1.0]) == {"mean": 2.0, "max": 3.0}
