"""The demo page without a browser: what is shown for replies and confidences, rows made of clips, messages."""

import math
import re
from html import unescape
from pathlib import Path

import pytest
from PIL import Image

from recipe.mer_r1.eval.demo_page import clips, command, markup
from recipe.mer_r1.eval.demo_page.page import Page
from recipe.mer_r1.eval.demo_page.view import Bar, View, view
from recipe.mer_r1.eval.generate import load_preset
from recipe.mer_r1.eval.rollout import Reply, TooLongError
from recipe.mer_r1.method.answer import FAST_PREFIX, build_prompt
from verl_ext.data.demux import MediaError

SLOW = Reply("<think>A smile.</think><answer>happy, xyzzy, furious</answer>", 12, True)
FAST = Reply(f"{FAST_PREFIX}happy</answer>", 3, True)
WHEEL = "w1"


def falling(wheels, step):
    """Values that fall along each wheel's order; slow is above fast; the last category has no tokens."""

    def values(offset):
        found = {}
        for wheel in wheels.ids:
            names = wheels.all_categories(wheel)
            found[wheel] = {name: -offset - step * place for place, name in enumerate(names)} | {names[-1]: None}
        return found

    return {"slow": values(0.1), "fast": values(0.3)}


@pytest.fixture
def confidence(builtin):
    return falling(builtin, 2.5)


def shown(builtin, confidence=None, labels=("joyful",), slow=SLOW, fast=FAST):
    return view({"slow": slow, "fast": fast}, confidence or {}, labels, builtin, WHEEL)


def text_of(html):
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def test_words_have_the_category_and_verdict_of_the_wheel(builtin):
    slow, fast = shown(builtin).answers
    joy, anger = builtin.category("happy", WHEEL), builtin.category("furious", WHEEL)
    assert [(word.text, word.category, word.correct) for word in slow.words] == [
        ("happy", joy, True),
        ("xyzzy", None, None),
        ("furious", anger, False),
    ]
    assert set(slow.named) == {joy, anger}
    assert fast.named == (joy,)
    assert fast.mean_named == pytest.approx(1.0)
    assert slow.thought == "A smile."
    assert slow.notes == fast.notes == ()


def test_without_labels_nothing_is_right_or_wrong(builtin):
    found = shown(builtin, labels=())
    assert {word.correct for answer in found.answers for word in answer.words} == {None}
    assert "True words" not in markup.answers(found)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply("<think>a</think><answer>happy, sa", 64, False), ["cut off after 64 tokens", "no closed <answer>"]),
        (Reply("well, happy", 3, True), ["no closed <answer>"]),
        (Reply("so <think>a</think><answer>happy</answer>", 9, True), ["not have the form"]),
    ],
)
def test_what_is_wrong_with_a_response_is_said(reply, expected, builtin):
    notes = shown(builtin, slow=reply).answers[0].notes
    assert len(notes) == len(expected)
    assert all(part in note for part, note in zip(expected, notes, strict=True))


def test_bars_are_sorted_and_undefined_ones_come_last(builtin, confidence):
    bars = shown(builtin, confidence).bars
    names = builtin.all_categories(WHEEL)
    assert [bar.category for bar in bars] == names
    assert bars[0].values == {"slow": pytest.approx(-0.1), "fast": pytest.approx(-0.3)}
    assert bars[-1].values == {"slow": None, "fast": None}
    joy = builtin.category("happy", WHEEL)
    named = {bar.category: bar.named_by for bar in bars}
    assert named[joy] == ("slow", "fast")
    assert [bar.category for bar in bars if bar.true] == [joy]


@pytest.mark.parametrize("fall", [0.01, 1.0, 4.9])
def test_a_bar_is_as_long_as_its_probability(fall, builtin):
    """From 0 to 100 %, so that an unlikely category has nearly no bar; the logarithm is written beside it."""
    found = shown(builtin, falling(builtin, fall))
    html = markup.bars(found)
    assert re.findall(r'class="tick"[^>]*>([^<]*)<', html) == ["0 %", "25 %", "50 %", "75 %", "100 %"]
    widths = [float(width) for width in re.findall(r'class="bar \w+" style="width:([\d.]+)%', html)]
    values = [bar.values[form] for bar in found.bars for form in ("slow", "fast")]
    expected = [0 if value is None else 100 * math.exp(value) for value in values]
    assert widths == pytest.approx(expected, abs=0.006)
    assert widths[0] == pytest.approx(90.48, abs=0.01)
    assert "90 % (−0.10)" in text_of(html)
    assert "nats" in html
    assert f"on {WHEEL}" in html
    assert "a table that groups emotion words" in html


def test_a_bar_ends_with_the_axis():
    """Rounding can lift a mass over 1."""
    bar = Bar("joy", {"slow": 0.01, "fast": -9.0}, (), False)
    html = markup.bars(View(WHEEL, (), (), (), (bar,)))
    assert "width:100.00%" in html
    assert "width:0.01%" in html


def test_without_words_there_is_no_confidence_and_the_page_says_so(builtin, confidence):
    assert "No confidence" in markup.bars(shown(builtin, {}))
    bars = shown(builtin, {"fast": confidence["fast"]}).bars
    assert {bar.values["slow"] for bar in bars} == {None}


def test_a_response_can_only_be_read(builtin):
    evil = Reply("<think><script>alert(1)</script>\x1b[2J</think><answer><b>x</b>, ${1+1}</answer>", 5, True)
    html = markup.answers(shown(builtin, slow=evil, labels=("<i>",)))
    assert "<script" not in html
    assert "<b>" not in html
    assert "<i>" not in html
    assert "\x1b" not in html
    assert "<b>x</b>" in text_of(html)


def test_an_uploaded_clip_is_asked_as_a_corpus_clip_is():
    row = clips.uploaded(Path("/tmp/a clip.webm"), "Oh no.", use_audio_in_video=False)
    assert row["prompt"] == [{"role": "user", "content": build_prompt("Oh no.")}]
    assert row["videos"] == row["audios"] == ["/tmp/a clip.webm"]
    woven = clips.uploaded(Path("/tmp/a.mp4"), "", use_audio_in_video=True)
    assert woven["prompt"][0]["content"] == build_prompt("").replace("<audio>", "")
    assert woven["audios"] == []


@pytest.mark.parametrize("name", ["photo.jpg", "photo.png", "moving.gif", "a photo without ending"])
def test_an_image_is_refused_by_name(name, tmp_path, builtin, confidence):
    path = tmp_path / name
    Image.new("RGB", (64, 64), (200, 0, 0)).save(path, {"jpg": "JPEG", "gif": "GIF"}.get(name[-3:], "PNG"))
    model = Model(confidence)
    _, last = Page(model, builtin, (), tmp_path).answer(str(path), "", None, WHEEL)
    assert f"{name} is an image (" in text_of(last[1])
    assert "the model takes a video with sound" in text_of(last[1])
    assert str(tmp_path) not in last[1]
    assert not model.asked


def shard_row(**changes):
    extra = {"name": "clip_1", "subtitle": "Fine.", "options": ["happy", "sad"]}
    row = {"prompt": [{"role": "user", "content": "<video><audio>as it stands"}], "videos": ["v.mp4"]}
    return row | {"audios": ["a.wav"], "reward_model": {"ground_truth": ["sad"]}, "extra_info": extra} | changes


def test_a_shards_prompt_is_kept_until_its_subtitle_is_changed():
    row = shard_row()
    assert clips.with_subtitle(row, "Fine.") == row
    changed = clips.with_subtitle(row, "Not fine.")
    assert changed["prompt"][0]["content"] == build_prompt("Not fine.", ["happy", "sad"])
    assert changed["extra_info"]["subtitle"] == "Not fine."
    assert "<audio>" not in clips.with_subtitle(shard_row(audios=[]), "x")["prompt"][0]["content"]
    heard = clips.with_subtitle(shard_row(videos=[]), "x")["prompt"][0]["content"]
    assert heard.startswith("<audio>Subtitle: x\n")
    assert row["extra_info"]["subtitle"] == "Fine."


def test_a_shards_clips_are_listed_and_copied_for_the_player(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"clip")
    rows = [shard_row(videos=[str(tmp_path / "v.mp4")]), shard_row(videos=[])]
    assert clips.choices(rows) == [("clip_1: Fine.", 0), ("clip_1: Fine.", 1)]
    out = tmp_path / "out"
    out.mkdir()
    assert clips.playable(rows, 0, out).read_bytes() == b"clip"
    assert clips.playable(rows, 1, out) is None


class Model:
    """A stand-in for vLLM and transformers that raises what it is given."""

    use_audio_in_video = False

    def __init__(self, confidence, *, error=None, reading_error=None):
        self.asked, self._confidence, self._error, self._reading_error = [], confidence, error, reading_error

    def answers(self, row):
        self.asked.append(row)
        if self._error:
            raise self._error
        return {"slow": SLOW, "fast": FAST}

    def confidence(self, row, replies):
        if self._reading_error:
            raise self._reading_error
        return self._confidence


def steps(model, builtin, video="/uploads/1a2b/clip.mp4", subtitle="", chosen=None, rows=()):
    return list(Page(model, builtin, rows, Path("/nowhere")).answer(video, subtitle, chosen, WHEEL))


def test_answers_are_shown_before_the_confidences(builtin, confidence):
    waiting, answered, done = steps(Model(confidence), builtin)
    assert waiting[0] is None
    assert "happy" in text_of(answered[1])
    assert "Computing" in answered[2]
    assert 'class="bar slow"' in done[2]
    page = Page(Model(confidence), builtin, (), Path("/nowhere"))
    assert page.show(done[0], WHEEL) == done[1:]
    assert page.show(done[0], "w2") != done[1:]
    assert page.show(None, WHEEL)[1] == ""


@pytest.mark.parametrize(
    ("error", "subtitle", "message"),
    [
        (MediaError("cannot open /uploads/1a2b/clip.mp4 as video: no. Re-encode."), "", "cannot open clip.mp4 as"),
        (TooLongError("clip 'clip.mp4': the prompt has 999 tokens"), "", "999 tokens"),
        (None, "a <video> of me", "contains '<video>'"),
        (None, "bye <|im_end|>", "contains '<|im_end|>'"),
    ],
)
def test_a_clip_that_cannot_be_used_gets_a_message(error, subtitle, message, builtin, confidence):
    _, last = steps(Model(confidence, error=error), builtin, subtitle=subtitle)
    assert last[0] is None
    assert message in text_of(last[1])
    assert 'role="alert"' in last[1]
    assert "/uploads" not in last[1]


def test_masses_that_are_no_numbers_leave_the_answers(builtin, confidence):
    *_, last = steps(Model(confidence, reading_error=FloatingPointError("masses are NaN")), builtin)
    assert "happy" in text_of(last[1])
    assert "masses are NaN" in last[2]


def test_without_a_clip_the_model_is_not_asked(builtin, confidence):
    model = Model(confidence)
    (only,) = steps(model, builtin, video=None)
    assert "no clip" in only[1]
    assert model.asked == []


def test_a_chosen_clip_is_the_shards_row_and_has_its_labels(builtin, confidence):
    model, row = Model(confidence), shard_row()
    *_, last = steps(model, builtin, subtitle="Fine.", chosen=0, rows=[row])
    assert model.asked == [row]
    assert "True words: sad" in text_of(last[1])


def test_the_facts_name_model_media_and_wheels(builtin):
    found = command.facts("some/model", load_preset("tiny", ["media.max_pixels=6272"]), builtin)
    assert found["model"] == "some/model"
    assert "2 frames per second, at most 4, 3136 to 6272 pixels each" in found["media"]
    assert builtin.sha256[:12] in found["wheels"]
    assert "some/model" in text_of(markup.facts(found))


def test_bad_input_ends_with_two_before_a_model_is_loaded(tiny_model, tmp_path, capsys):
    import socket

    def ends(*more):
        with pytest.raises(SystemExit) as stop:
            command.app(["--model", str(tiny_model), *more])
        return stop.value.code, capsys.readouterr().err

    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, message = ends("--port", str(taken.getsockname()[1]))
    assert code == 2
    assert "--port" in message
    assert ends("--preset", "no")[0] == ends("--wheels", str(tmp_path))[0] == ends("--port", "99999")[0] == 2
    code, message = ends("--shard", str(tmp_path / "no.parquet"))
    assert code == 2
    assert "no such file" in message


def test_a_model_that_answers_before_it_thinks_is_refused(tmp_path):
    from recipe.mer_r1.eval.demo_page.command import check_one_answer
    from recipe.mer_r1.files.errors import InputError

    model = tmp_path / "run" / "model"
    model.mkdir(parents=True)
    check_one_answer(str(model))
    (model.parent / "config.yaml").write_text("data: {form: answer_think_answer}\n")
    with pytest.raises(InputError, match=r"trained with the form answer_think_answer \(.*config\.yaml\)"):
        check_one_answer(str(model))
