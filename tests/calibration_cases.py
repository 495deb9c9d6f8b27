"""Prompts and responses on which the engine's confidences are compared with the reference's.

Lengths differ, so that batches of them are padded; media come apart, interleaved or not at all; several responses
share a prompt. Responses are well-formed, sloppy, cut off or without words; some have other tokens than the tokenizer
would give them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "verl_ext"))

from omni_cases import encoder, messages

QUESTION = "What does the person feel? Reason inside <think> </think>, then list the emotion words inside <answer>."


@dataclass(frozen=True)
class Case:
    """One response to one prompt. Cases with the same `prompt` share the same `encoded` object, as a group does."""

    name: str
    prompt: str
    encoded: Any
    response: list[int]
    labels: list[str]


# Name, prompt, true words, response. Responses end with the end-of-turn token unless they are cut off.
RESPONSES = (
    ("plain", "apart", ["happy", "worried"], "<think>A smile.</think><answer>happy, sad, worried</answer>"),
    ("empty thought", "apart", ["happy", "worried"], "<think></think><answer>happy, sad, worried</answer>"),
    (
        "capitals, repeated words",
        "apart",
        ["happy", "worried"],
        "<think>The voice sounds angry, loud and rough. The text seems plain.</think>\n"
        "<answer>Happy, Sad, happy, SAD, Surprised, happy</answer>",
    ),
    (
        "two answers",
        "apart, long",
        ["angry", "disgusted"],
        "<answer>sad, scared</answer><think>The face looks angry. The cues differ.</think><answer>angry, sad</answer>",
    ),
    (
        "list with quotes",
        "apart, long",
        ["angry", "disgusted"],
        "<think>So the feeling is</think> <answer>\n['furious', \"anxious\",frustrated, scared]\n</answer>",
    ),
    (
        "words no wheel knows",
        "interleaved",
        ["sad"],
        "<think>The person looks sad.</think><answer>table, sad, wütend, 恐惧, 17, joyful</answer>",
    ),
    ("only words no wheel knows", "interleaved", ["sad"], "<think>Sad.</think><answer>table, blorp</answer>"),
    (
        "non-English thought",
        "interleaved, long",
        ["joyful", "surprised"],
        "<think>这个人看起来很高兴。Die Stimme klingt fröhlich.</think><answer>joyful, astonished, depressed</answer>",
    ),
    ("plain, text alone", "text", ["scared"], "<think>Well.</think><answer>terrified, scared, calm</answer>"),
    ("empty answer", "text", ["scared"], "<think>Nothing to see.</think><answer></answer>"),
    ("no answer", "text", ["scared"], "The person is scared, sad and angry."),
    ("no thought", "text, long", ["sad"], "<answer>lonely, sad, happy</answer>"),
    ("labels no wheel knows", "text, long", ["table"], "<think>So.</think><answer>happy, sad</answer>"),
    ("cut off", "text, long", ["sad"], "<think>The voice sounds flat.</think><answer>sad, lone"),
)
CUT_OFF = "cut off"
# These come again with one token a byte: in the whole response, or in the answer's opening tag.
IN_BYTES = ("capitals, repeated words", "words no wheel knows")
TAG_IN_BYTES = ("plain", "non-English thought")


def build(processor: Any, rows: Sequence[Mapping[str, Any]]) -> list[Case]:
    """All cases, in a fixed order; `rows` are four or more of MER-Micro's RL shard."""
    prompts = {
        "apart": encoder(processor)(messages(rows[0])),
        "apart, long": encoder(processor, fps=4.0, max_frames=8)(messages(rows[1])),
        "interleaved": encoder(processor, True)(messages(rows[2], True)),
        "interleaved, long": encoder(processor, True, fps=4.0, max_frames=8)(messages(rows[3], True)),
        "text": encoder(processor)([{"role": "user", "content": "What does the person feel?"}]),
        "text, long": encoder(processor)([{"role": "user", "content": f"He says that it is late. {QUESTION}"}]),
    }
    tokenizer = processor.tokenizer
    cases = []
    for name, prompt, labels, text in RESPONSES:
        ids = tokenizer.encode(text, add_special_tokens=False)
        end = [] if name == CUT_OFF else [tokenizer.eos_token_id]
        cases.append(Case(name, prompt, prompts[prompt], ids + end, labels))
        if name in IN_BYTES:
            cases.append(Case(f"{name}, in bytes", prompt, prompts[prompt], in_bytes(tokenizer, ids) + end, labels))
        if name in TAG_IN_BYTES:
            parted = tag_in_bytes(tokenizer, text)
            cases.append(Case(f"{name}, tag in bytes", prompt, prompts[prompt], parted + end, labels))
    return cases


def in_bytes(tokenizer: Any, ids: list[int]) -> list[int]:
    """The same text with one token a byte; a byte-level vocabulary holds each."""
    return [
        tokenizer.convert_tokens_to_ids(byte) for token in tokenizer.convert_ids_to_tokens(ids) for byte in list(token)
    ]


def tag_in_bytes(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a response with one `<answer>`, the tag in bytes: no token reaches from before the tag into it."""
    before, after = text.split("<answer>")
    before_ids, tag_ids, after_ids = (
        tokenizer.encode(part, add_special_tokens=False) for part in (before, "<answer>", after)
    )
    return before_ids + in_bytes(tokenizer, tag_ids) + after_ids
