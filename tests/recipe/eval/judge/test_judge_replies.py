"""The judge's replies: what is read back is what was meant, and everything else is unparseable."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipe.mer_r1.eval.judge.replies import Rating, UnparseableError, read_scores, read_steps

# Any text of one line without tags, whose first character is no blank.
texts = (
    st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=30)
    .map(str.strip)
    .filter(lambda text: text and "<" not in text)
)


def written(scores):
    return "<score>" + ", ".join(f"Step {n}: {score}" for n, score in enumerate(scores, 1)) + "</score>"


@given(st.lists(texts, min_size=1, max_size=6), st.booleans())
def test_steps_come_back(steps, tags_each):
    lines = [f"Step {number}: {step}" for number, step in enumerate(steps, 1)]
    reply = "\n".join(f"<step>{line}</step>" for line in lines) if tags_each else f"<step>{chr(10).join(lines)}</step>"
    assert read_steps(f"Here:\n{reply}\n") == steps


@given(st.data(), st.integers(1, 6), st.one_of(st.none(), st.integers(1, 5)))
def test_scores_come_back(data, steps, labels):
    whole = labels or 1
    parts = [data.draw(st.integers(0, 1)) for _ in range(steps - 1)]
    last = data.draw(st.integers(0, whole))
    rating = read_scores(written([*(f"{part}/1" for part in parts), f"{last}/{whole}"]), steps, labels)
    assert rating.scores == (*map(Fraction, parts), Fraction(last, whole))
    assert rating.recognition == Fraction(last, whole)
    assert rating.reasoning == (Fraction(sum(parts), len(parts)) if parts else 0)


@given(st.integers(1, 6), st.integers(1, 6))
def test_the_number_of_scores_must_be_that_of_the_steps(given_scores, steps):
    reply = written(["1/1"] * given_scores)
    if given_scores == steps:
        assert read_scores(reply, steps) == Rating((Fraction(1),) * steps)
    else:
        with pytest.raises(UnparseableError, match=f"{given_scores} scores for {steps} steps"):
            read_scores(reply, steps)


@given(st.text(max_size=80))
def test_any_text_is_read_or_unparseable(reply):
    for read in (read_steps, lambda text: read_scores(text, 2), lambda text: read_scores(f"<score>{text}</score>", 1)):
        try:
            read(reply)
        except UnparseableError:
            continue


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "Step 1: happy",
        "<step></step>",
        "<step>Step 1: happy",
        "<step>happy</step>",
        "<step>Step 2: happy</step>",
        "<step>Step 1: calm\nStep 3: happy</step>",
        "<step>Step 1: </step>",
        "<step>Step 1: calm\nand still\nStep 2: happy</step>",
        "<step><step>Step 1: happy</step>",
        "<step>Step ١: happy</step>",
    ],
)
def test_other_steps_are_unparseable(reply):
    with pytest.raises(UnparseableError):
        read_steps(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "Step 1: 1/1, Step 2: 1/1",
        "<score>Step 1: 1/1, Step 2: 1/1",
        "<score>Step 1: 1/1, Step 2: 1/1</score><score>Step 1: 0/1, Step 2: 1/1</score>",
        "<score>Step 1: 1/1, Step 2: 2/1</score>",
        "<score>Step 1: 1/1, Step 2: 1/2</score>",
        "<score>Step 1: 1/2, Step 2: 1/1</score>",
        "<score>Step 1: 1/1, Step 3: 1/1</score>",
        "<score>Step 2: 1/1, Step 1: 1/1</score>",
        "<score>Step 1: 1/1, Step 2: 0.5/1</score>",
        "<score>Step 1: 1/1, Step 2: -1/1</score>",
        "<score>Step 1: 1/1, Step 2: 01/1</score>",
        "<score>Step 1: 1/1, Step 2: 1/1,</score>",
        "<score>Step 1: 1/1 Step 2: 1/1</score>",
        "<score>1/1, 1/1</score>",
    ],
)
def test_other_scores_are_unparseable(reply):
    with pytest.raises(UnparseableError):
        read_scores(reply, 2)


@pytest.mark.parametrize("last", ["1/1", "4/3", "3/2", "1/4"])
def test_several_labels_are_worth_thirds_and_nothing_else(last):
    assert read_scores("<score>Step 1: 0/1\nStep 2: 2/3</score>", 2, 3).recognition == Fraction(2, 3)
    with pytest.raises(UnparseableError):
        read_scores(f"<score>Step 1: 1/1, Step 2: {last}</score>", 2, 3)


def test_intervals_are_those_of_resampled_answers():
    """Of 400 answers, a quarter unparseable, by the normal approximation of the mean of the others."""
    import numpy as np

    from recipe.mer_r1.eval.judge.results import mean_score, summarize
    from recipe.mer_r1.eval.judge.verdict import Verdict
    from recipe.mer_r1.method.bootstrap import intervals

    generator = np.random.default_rng(0)
    common = {"name": "clip", "task": "IR"}
    verdicts = [
        Verdict(**common, index=i, status="scored", recognition=float(i % 2), reasoning=float(generator.random()))
        for i in range(300)
    ]
    verdicts += [Verdict(**common, index=300 + i, status="unparseable") for i in range(100)]
    found, official = intervals(mean_score(verdicts), len(verdicts), 2000, 0), summarize(verdicts).official
    for name in ("recognition", "reasoning"):
        values = np.array([getattr(verdict, name) for verdict in verdicts[:300]])
        error = 1.96 * values.std() / np.sqrt(300)
        assert found[name] == pytest.approx([values.mean() - error, values.mean() + error], abs=0.01)
    assert found["cot"][0] < official.cot < found["cot"][1]


def test_where_nothing_was_scored_there_is_no_interval():
    import math

    from recipe.mer_r1.eval.judge.results import mean_score
    from recipe.mer_r1.eval.judge.verdict import Verdict
    from recipe.mer_r1.method.bootstrap import intervals

    found = intervals(mean_score([Verdict(index=0, name="clip", task="IR", status="unparseable")]), 1, 50, 0)
    assert all(math.isnan(number) for pair in found.values() for number in pair)
