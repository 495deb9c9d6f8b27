"""What the doctor says of the confidence signal on a model's vocabulary."""

import pytest
from doctor_cases import subject

from recipe.mer_r1.doctor.confidence import check_confidence, coverage
from recipe.mer_r1.method.token_sets import category_sets

pytestmark = pytest.mark.slow


def test_a_rule_that_drops_tokens_covers_less_and_less_at_the_start(builtin, qwen):
    split, drop = (category_sets(builtin, qwen, rule) for rule in ("split", "drop"))
    covered, total = coverage(builtin, qwen, split, first=True)
    assert covered == total > 20_000
    start, later = (coverage(builtin, qwen, drop, first=first)[0] for first in (True, False))
    assert 0.3 * total < start < later < 0.9 * total


def test_a_model_folder_is_told_of(tiny_model):
    outcome = check_confidence(subject(model=str(tiny_model)))
    assert outcome.status == "ok"
    assert outcome.seen.startswith("31 categories, ")
    assert "(split); own token in its category's set: 100.0% at the start of an answer, 100.0% behind" in outcome.seen


def test_without_a_tokenizer_it_is_skipped(tmp_path):
    outcome = check_confidence(subject(model=str(tmp_path)))
    assert (outcome.status, "no tokenizer here" in outcome.seen) == ("warning", True)
