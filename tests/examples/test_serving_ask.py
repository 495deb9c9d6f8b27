"""What examples/serving/ask.py prints, and what it says where it cannot ask."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from verl_ext.platform import ports

ASK = Path(__file__).parents[2] / "examples" / "serving"


@pytest.mark.parametrize(
    ("reply", "fast", "printed"),
    [
        ("happy, calm</answer>", True, "happy, calm"),
        (" happy </answer>\n", True, "happy"),
        ("cut off", True, "cut off"),
        ("<think>a smile</think><answer>happy</answer>", False, "<think>a smile</think><answer>happy</answer>"),
    ],
)
def test_a_fast_reply_is_its_words(reply, fast, printed, monkeypatch):
    monkeypatch.syspath_prepend(str(ASK))
    import ask

    assert ask.shown(reply, fast) == printed


def test_what_is_wrong_is_a_line_and_no_traceback(micro_corpus, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ASK))
    import ask

    clip = next((micro_corpus / "test" / "video").iterdir())
    sound = micro_corpus / "test" / "audio" / f"{clip.stem}.wav"
    url = f"http://127.0.0.1:{ports.free_port()}/v1"
    for arguments, code, message in (
        (["none.mp4"], 2, "none.mp4"),
        ([str(clip), "--audio", str(sound), "--preset", "none"], 2, "--preset none: no such preset"),
        ([str(clip), "--audio", str(sound), "--url", url], 1, f"no server answers at {url}"),
    ):
        monkeypatch.setattr(sys, "argv", ["ask.py", *arguments])
        assert ask.main() == code
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("ask: ")
        assert message in printed.err
