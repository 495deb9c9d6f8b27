"""F1 of the well-formed answers: what is left out, and paired differences by value."""

import pytest

from recipe.mer_r1.eval.well_formed import difference, well_formed_f1


def answer(f1, clip=0, sample=0, form=1.0, wheels=5):
    return {"index": clip, "sample": sample, "f1": f1, "format": form, "wheels": wheels}


def test_malformed_answers_do_not_count():
    assert well_formed_f1([answer(1.0), answer(0.5), answer(0.0, form=0.0)]) == 0.75
    assert well_formed_f1([answer(1.0, form=0.0)]) is None
    assert well_formed_f1([answer(1.0, wheels=0)]) is None
    assert well_formed_f1([]) is None


def test_a_difference_is_over_the_clips_where_both_have_one():
    first = [answer(1.0), answer(0.5, sample=1), answer(0.8, clip=1), answer(1.0, clip=2)]
    second = [answer(0.25), answer(0.9, sample=1, form=0.0), answer(0.6, clip=1), answer(0.0, clip=2, form=0.0)]
    found = difference(first, second)
    assert (found.first, found.second) == pytest.approx((0.775, 0.425))
    assert found.difference == pytest.approx(0.35)
    assert found.low == pytest.approx(0.2)
    assert found.high == pytest.approx(0.5)


def test_without_such_a_clip_it_is_undefined():
    assert difference([answer(1.0)], [answer(1.0, form=0.0)]).difference is None


def test_other_clips_are_an_error():
    with pytest.raises(ValueError, match="zip"):
        difference([answer(1.0)], [answer(1.0), answer(1.0, clip=1)])
