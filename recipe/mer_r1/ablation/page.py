"""The page of the ablation, docs/results/ablation.md: answers, tables, what is missing, how the intervals are made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from recipe.mer_r1.ablation.answers import Answer, answers
from recipe.mer_r1.ablation.results import Results, is_start
from recipe.mer_r1.ablation.tables import (
    claim_table,
    difference_table,
    form_table,
    other_table,
    score_table,
    training_table,
)
from recipe.mer_r1.pages.tables import markdown_table

_HEAD = """\
{finished} of {asked} runs of [conf/ablation.yaml](../../conf/ablation.yaml) are done, {failed} failed, {missing} are
missing. {clips} test clips of a synthetic corpus, a Thinker of about a million parameters: this tells how the method
behaves here, not how models of a useful size behave. The page and its figure are made of the records in
[ablation/](ablation) alone:

```bash
make ablation                                        # run what is missing, then make the page
python -m recipe.mer_r1.ablation report    # make the page again
```
"""
_SAMPLED = """\
Sampled at temperature 1, {samples} answers for each clip. A clip's score is the mean over its answers. **These answers
decide on this page**: RL samples and trains them, and several answers per clip have less noise than one greedy answer.

F1 is clip F1 on this page: recall (R), precision (P) and F1 are means over the test clips, as RL rewards them. A clip's
score is the mean over the wheels on which its labels map. EW F of the official scorer is
[another number](../report.md#ew-f-and-clip-f1); `main_eval compare` prints it for two of these models. Beside F1 is
half the width of its interval. cats: categories of an answer on a wheel.

SFT models of different seeds differ much. So rows with other seeds cannot be compared here: use the paired differences
below.
"""
_GREEDY = """\
One answer per clip, the most probable one. paper: F1 of slow thinking on OV-MERD+ in percent (Tables 3 to 5). **That is
another task, and a model of 7B**; only the order of the rows can be compared.
"""
_FORM = """\
A malformed answer can hold the right words: the reward reads the first closed answer after the last thought. So a row
can be ahead in F1 for three reasons: more of its answers keep the form, its malformed answers have better words, or its
well-formed answers have better words. This table shows the last. A clip without a well-formed answer is left out.
"""
_DIFFERENCES = """\
Paired by seed and clip. ✱: more than one seed, and 0 is outside. With 1 seed only clips are
resampled, and such an interval decides nothing. †: starts from another SFT model, so seeds are not paired.
"""
_OTHERS = """\
truth and margin: log-confidence on the true categories and the margin of Eq. 2, in nats, of greedy answers. kept hits:
share of the true categories of the fast answer that the slow answer still names (the paper's Figure 8). s/step: median
seconds of a step of RL, or of an update of SFT; it says little where other work ran beside it.
"""
_TRAINING = """\
Sampled slow answers to the training prompts. first and last: means of the first and the last five steps, over seeds.
R⁺ and R⁻ defined: share of responses. τ: geometric mean over groups and steps. In the figure: running means over nine
steps, mean over seeds.
"""
_METHOD = """\
A hierarchical bootstrap of 10,000 draws. All seeds share the test clips, so clips are drawn with replacement, the same
ones for all seeds. The mean over the S seeds moves by its standard error times a draw of Student's t with S − 1 degrees
of freedom. So an interval has both sources of noise: which clips were asked, and which seeds were run. Drawing three
seeds with replacement would not do: noise alone gives three differences of the same sign in one of four cases, and such
an interval then leaves out 0.

- With 3 seeds an interval reaches at least 2.5 standard deviations of the seeds to either side. So small differences
  stay undecided, also real ones.
- With 1 seed only clips are drawn. Such an interval says nothing on what another seed would give, and no answer is read
  from it. Rows with 1 seed: {alone}.
- How many seeds would decide: the smallest number with which the interval would leave out 0, if the difference and its
  spread over seeds stay as seen. The clips' error shrinks with more seeds, as far as it differs from seed to seed. A
  row with one seed takes the typical spread of the other rows.
- {looks}
- Each answer has its own interval. With ten questions, one wrong yes or no is to be expected in about two pages.
"""


def page(results: Results, picture: str, whole: str, curves: str) -> str:
    """The complete page.

    Args:
        picture, whole, curves: file names of the figures beside the page: of the rows with several seeds, of all rows,
            and of the training.
    """
    found = answers(results)
    parts = [
        "# The ablation on MER-Micro",
        "",
        _head(results),
        f"![F1 of sampled answers of the rows with several seeds, and the difference to the baseline]({picture})",
        "",
        "## Answers",
        "",
        *markdown_table([["question", "answer"], *([one.question, f"**{one.verdict}**"] for one in found)]),
        "",
        *(line for one in found for line in _answer(one)),
        *_section(
            "Scores of sampled answers",
            score_table(results, ("slow_sampled", "fast_sampled")),
            _SAMPLED.format(samples=_samples(results)),
        ),
        f"![F1 of sampled answers of all rows, and the difference to the baseline]({whole})",
        "",
        *_section("Scores of greedy answers", score_table(results, ("slow", "fast"), paper=True), _GREEDY),
        *_section("Form and words of sampled slow answers", form_table(results), _FORM),
        *(line for other in ("baseline", "rd_ad") for line in _differences(results, other)),
        *_section("Confidence, form and time", other_table(results), _OTHERS),
        *_section("During training", training_table(results), _TRAINING),
        f"![Curves of training, a line for each row]({curves})",
        "",
        *_missing(results),
        "## How the intervals are made",
        "",
        _METHOD.format(
            alone=", ".join(row for row in results.rows if len(results.records(row)) == 1) or "none",
            looks=_looks(results),
        ),
    ]
    return "\n".join(parts)


def _answer(one: Answer) -> Iterator[str]:
    yield from (f"**{one.question}** {one.verdict[:1].upper()}{one.verdict[1:]}. {one.text}", "")
    if one.claims:
        yield from (*markdown_table(claim_table(one.claims)), "")


def _head(results: Results) -> str:
    records = [record for row in results.rows for record in results.records(row)]
    clips = sorted({form.n for record in records for form in record.metrics.forms.values()})
    return _HEAD.format(
        finished=sum(not is_start(record.row) for record in records),
        asked=len(results.table.runs()),
        failed=len(results.failed),
        missing=len(results.missing),
        clips=" or ".join(map(str, clips)),
    )


def _section(title: str, table: Sequence[Sequence[str]], text: str) -> list[str]:
    return [f"## {title}", "", *markdown_table(table), "", text]


def _differences(results: Results, other: str) -> list[str]:
    rows = difference_table(results, other)
    if len(rows) == 1:
        return [f"## F1, difference to {other}", "", f"{other} and another row have not run on the same seed.", ""]
    return _section(f"F1, difference to {other}", rows, _DIFFERENCES)


def _missing(results: Results) -> Iterator[str]:
    records = [record for row in results.rows for record in results.records(row)]
    lines = [f"- **{record.row}-{record.seed} failed**: {record.reason}" for record in results.failed]
    for row, keys in results.mixed.items():
        lines.append(f"- **The seeds of {row} were made with different settings**: {'; '.join(keys)}")
    lines += [f"- Not run: {', '.join(results.missing)}"] if results.missing else []
    lines += [f"- {record.row}-{record.seed}: {note}" for record in records for note in record.notes]
    if lines:
        yield from ("## What is missing", "", *lines, "")


def _looks(results: Results) -> str:
    """On the level of the intervals."""
    table = results.table
    added = sorted({seed for row in results.rows for seed in results.finished[row]} - set(table.seeds))
    if not added:
        return "Each interval has 95 %."
    return (
        f"Each interval has 95 %. Where seeds were added ({', '.join(map(str, added))}) after results had been read, "
        f"it has {100 * table.level(added):.1f} %: {table.looks} looks that all use this level have 95 % together "
        "(Bonferroni)."
    )


def _samples(results: Results) -> str:
    records = [record for row in results.rows for record in results.records(row)]
    forms = [form for record in records for mode, form in record.metrics.forms.items() if mode.endswith("_sampled")]
    return " or ".join(map(str, sorted({form.samples for form in forms}))) or "no"
