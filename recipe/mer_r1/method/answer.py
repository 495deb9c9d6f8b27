"""Text of a turn: the prompt, the slow and the fast form of a response, and how a response is read back.

A slow response thinks first, `<think>REASON</think><answer>word, word</answer>`; a fast one answers the same prompt
with the thought emptied, `<think></think><answer>word, word</answer>` (paper, section 3.1 and Eq. 8). VideoAuto-R1, a
compared method, answers twice, `<answer>first</answer><think>REASON</think><answer>final</answer>`. Pure Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FAST_PREFIX = "<think></think><answer>"

_THINK_TAGS = ["<think>", "</think>"]
_ANSWER_TAGS = ["<answer>", "</answer>"]


@dataclass(frozen=True, slots=True)
class Form:
    """What a response is asked to look like."""

    instruction: str
    """Last line of the prompt."""
    tags: list[str]
    """The tags of a well-formed response, in order; nothing but blanks around them outside the thought and answers."""


ONE_ANSWER, TWO_ANSWERS = "think_answer", "answer_think_answer"
FORMS = {
    ONE_ANSWER: Form(
        "What does the person feel? "
        "Reason inside <think> </think>, then list the emotion words inside <answer> </answer>.",
        _THINK_TAGS + _ANSWER_TAGS,
    ),
    TWO_ANSWERS: Form(
        "What does the person feel? List the emotion words you think of first inside <answer> </answer>, reason "
        "inside <think> </think>, then list the final emotion words inside <answer> </answer>.",
        _ANSWER_TAGS + _THINK_TAGS + _ANSWER_TAGS,
    ),
}
"""By name, as `experiment.form` and `data.form` choose them."""

_TAG = re.compile(r"</?(?:think|answer)>")
# What a text in a prompt must not hold: media placeholders, the tags of a response, special tokens of the tokenizer
# (as verl_ext.data.prompt_text has them, which this room must not import).
_MARKUP = re.compile(rf"<(?:image|video|audio)>|{_TAG.pattern}|<\|[^|>]*\|>|</?tool_call>|<tts_\w+>")
# An item of the scorer's list rule: what stands between separators, less the blanks around it.
_ITEM = re.compile(r"""[^'",\s](?:[^'",]*[^'",\s])?""")


@dataclass(frozen=True, slots=True)
class Answer:
    """A parsed response. `spans[i]` is the half-open character range of `words[i]` in the response."""

    think: str
    """What stands inside `<think>`, stripped; "" when there is none."""
    text: str
    """What stands inside `<answer>`, stripped; "" when there is no closed answer."""
    words: list[str]
    """The answer's words in order, duplicates and case kept."""
    well_formed: bool
    """Whether the whole response is `<think>…</think>\\s*<answer>…</answer>` (or its form's tags), each tag once."""
    spans: list[tuple[int, int]]
    first_words: list[str] = field(default_factory=list)
    """The words of a closed answer before the thought; [] where the form has none."""


def markup_in(text: str) -> str | None:
    """The first thing in a text of a corpus that a model would not read as words: `<|im_end|>`, `<video>`, `<think>` …

    One rule for subtitles, reasons, labels and options, wherever they come from; None where there is nothing.
    """
    found = _MARKUP.search(text)
    return found[0] if found else None


def labels_of(reward_model: Mapping[str, Any]) -> list[str]:
    """The labels of a shard's row. Raises ValueError where they are no list of words: a string has letters only."""
    labels = reward_model.get("ground_truth")
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        raise ValueError(f"reward_model.ground_truth is {labels!r}; it must be a list of words (docs/data.md)")
    labels = list(labels)
    if odd := [label for label in labels if not isinstance(label, str)]:
        raise ValueError(f"reward_model.ground_truth: the label {odd[0]!r} is not a word (docs/data.md)")
    return labels


def build_prompt(subtitle: str, options: Sequence[str] = ()) -> str:
    """The user turn of a clip; `<video><audio>` are replaced by the dataset. `options` are labels to choose among.

    Raises ValueError when a text itself holds a media placeholder, a tag of a response or a special token.
    """
    spoken = f"Subtitle: {subtitle}" if subtitle else ""
    choice = f"Choose among: {', '.join(options)}." if options else ""
    context = "\n".join(line for line in (spoken, choice) if line)
    if found := markup_in(context):
        raise ValueError(f"{context!r} contains {found!r}, which the model would read as a command; remove it")
    return f"<video><audio>{context}\n{FORMS['think_answer'].instruction}"


def ask_for(form: str, prompt: str) -> str:
    """A prompt of `build_prompt` with the instruction of another form; unchanged for the default form.

    Raises ValueError where another form is asked for and the prompt does not end with the default's instruction.
    """
    if form == "think_answer":
        return prompt
    default = FORMS["think_answer"].instruction
    if not prompt.endswith(default):
        raise ValueError(f"the prompt does not end with the instruction {default!r}; the form {form} cannot be used")
    return prompt.removesuffix(default) + FORMS[form].instruction


def slow_response(reason: str, labels: Sequence[str], form: str = "think_answer") -> str:
    """The response that thinks, in a form. Raises ValueError where it could not be read back as it was meant."""
    parts = {"<think>": reason, "<answer>": ", ".join(labels)}
    tags = FORMS[form].tags
    response = "".join(f"{tag}{parts.get(tag, '')}" for tag in tags)
    answer = parse(response, form)
    if not answer.well_formed:
        raise ValueError(f"a reason or label contains one of the tags {sorted(set(tags))}: {response!r}")
    if answer.words != list(labels):
        raise ValueError(
            f"labels {list(labels)!r} would be read back as {answer.words!r}: "
            "a label must be stripped, not empty, and free of quotes, commas and enclosing brackets"
        )
    return response


def fast_response(labels: Sequence[str]) -> str:
    """The same answer with the thought emptied (Eq. 8). Raises ValueError as `slow_response` does."""
    return slow_response("", labels)


def parse(response: str, form: str = "think_answer") -> Answer:
    """Read a response; never raises, whatever a model wrote. Words are found alike in every form.

    A malformed response still yields what it holds: the thought up to `</think>`, and the words of the first
    *closed* `<answer>` after the last `</think>`. An answer cut off by the length limit yields no words, because its
    last word may be half a word.
    """
    tags = [(match[0], *match.span()) for match in _TAG.finditer(response)]
    well_formed = _is_well_formed(response, tags, FORMS[form].tags)
    think = _inner(tags, "<think>", "</think>", 0)
    after = max((index for index, tag in enumerate(tags) if tag[0] == "</think>"), default=-1) + 1
    answer = _inner(tags, "<answer>", "</answer>", after)
    think_text = response[think[0] : think[1]].strip() if think else ""
    before = next((index for index, tag in enumerate(tags) if tag[0] == "<think>"), 0)
    early = _inner(tags[:before], "<answer>", "</answer>", 0)
    first_words = [response[start:end] for start, end in _word_spans(response, *early)] if early else []
    if answer is None:
        return Answer(think_text, "", [], well_formed, [], first_words)
    spans = _word_spans(response, *answer)
    words = [response[start:end] for start, end in spans]
    return Answer(think_text, response[answer[0] : answer[1]].strip(), words, well_formed, spans, first_words)


def early_part(response: str) -> str:
    """What an answer_think_answer response says before it thinks: up to the end of its first answer.

    A response whose first answer is missing or not closed is taken up to its thought, or whole without one.
    """
    before = response.split("<think>", 1)[0]
    answer, closing, _ = before.partition("</answer>")
    return answer + closing


def split_list(text: str) -> list[str]:
    """The words of a list written as text, `"[happy, 'sad']"` → `["happy", "sad"]` (the official scorer's rule).

    One leading `[` and one trailing `]` are dropped, the rest is split at quotes and commas, items are stripped and
    empty ones dropped. Nothing else is removed: `happy.` stays `happy.`.
    """
    return [text[start:end] for start, end in _list_spans(text, 0, len(text))]


def _is_well_formed(response: str, tags: list[tuple[str, int, int]], wanted: list[str]) -> bool:
    if [tag[0] for tag in tags] != wanted or tags[0][1] != 0 or tags[-1][2] != len(response):
        return False
    # Between one part's end and the next part's beginning: every second gap.
    gaps = [response[one[2] : two[1]] for one, two in zip(tags[1::2], tags[2::2], strict=False)]
    return not any(gap.strip() for gap in gaps)


def _inner(tags: list[tuple[str, int, int]], opening: str, closing: str, after: int) -> tuple[int, int] | None:
    """The character range inside the first opening…closing pair from tag number `after` on."""
    start = None
    for name, begin, end in tags[after:]:
        if name == opening and start is None:
            start = end
        elif name == closing and start is not None:
            return start, begin
    return None


def _word_spans(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """The list rule on `text[start:end]` after stripping blanks around it (an answer may stand on its own line)."""
    return _list_spans(text, *_strip(text, start, end))


def _list_spans(text: str, start: int, end: int) -> list[tuple[int, int]]:
    if start < end and text[start] == "[":
        start += 1
    if start < end and text[end - 1] == "]":
        end -= 1
    return [match.span() for match in _ITEM.finditer(text, start, end)]


def _strip(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end
