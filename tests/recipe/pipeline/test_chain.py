"""Skipping, going on, starting anew and failing, on stages of a moment."""

import io
import json
import shlex
import sys
import time
from dataclasses import replace

import pytest
from rich.console import Console

from recipe.mer_r1.pipeline import stamps
from recipe.mer_r1.pipeline.chain import Chain
from recipe.mer_r1.pipeline.screen import Screen
from recipe.mer_r1.pipeline.stage import Stage
from recipe.mer_r1.pipeline.stage_run import StageError

WRITE = "import sys, pathlib; p = pathlib.Path(sys.argv[1]); p.parent.mkdir(exist_ok=True); p.write_text('TEXT')"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("recipe.mer_r1.pipeline.process.POLL_SECONDS", 0.02)


@pytest.fixture
def demo(tmp_path):
    """Two stages: `a` appends a line to its file, `b` counts the lines. `code` replaces a stage's program."""

    out = tmp_path

    def run(**code):
        count = "pathlib.Path(sys.argv[2]).read_text().count('line')"
        programs = {
            "a": WRITE.replace("p.write_text('TEXT')", "p.open('a').write('line\\n')"),
            "b": WRITE.replace("'TEXT'", f"str({count})"),
        } | code
        stages = [
            Stage(
                name,
                name,
                ("-c", program, str(out / name / "out"), str(out / "a" / "out")),
                out / name,
                out / name / "out",
            )
            for name, program in programs.items()
        ]
        stages[1] = replace(stages[1], after=("a",))
        text = io.StringIO()
        with Screen({"a": "first", "b": "second"}, Console(file=text)) as screen:
            done = Chain(out, stages).run(screen)
        return done, text.getvalue()

    return run


def test_every_command_is_shown_and_its_output_kept(demo, tmp_path):
    _, text = demo(a=f"print('hello'); {WRITE}")
    assert "a  $ python -c" in text
    assert "hello" in (tmp_path / "logs" / "a.log").read_text()


def test_a_finished_stage_is_kept(demo, tmp_path):
    first, _ = demo()
    second, text = demo()
    assert second == first
    assert "a  kept" in text
    assert (tmp_path / "a" / "out").read_text() == "line\n"


def test_a_changed_command_starts_anew_with_an_empty_folder_and_so_does_what_follows(demo, tmp_path):
    first, _ = demo()
    (tmp_path / "a" / "stale").touch()
    second, _ = demo(a=WRITE.replace("TEXT", "line line"))
    assert not (tmp_path / "a" / "stale").exists()
    assert second["a"].run != first["a"].run
    assert second["b"].run != first["b"].run
    assert (tmp_path / "b" / "out").read_text() == "2"


def test_a_lost_result_is_made_again(demo, tmp_path):
    demo()
    (tmp_path / "b" / "out").unlink()
    _, text = demo()
    assert "a  kept" in text
    assert "b  done" in text


def test_a_failed_stage_tells_the_end_of_its_log(demo, tmp_path):
    with pytest.raises(StageError) as failure:
        demo(b="print('WARNING of no use'); raise SystemExit('the reason')")
    assert "exit status 1" in str(failure.value)
    assert failure.value.lines[-1] == "the reason"
    assert not any("WARNING" in line for line in failure.value.lines)
    assert failure.value.log == tmp_path / "logs" / "b.log"
    assert not stamps.read(tmp_path / "stamps" / "b.json").finished


def test_a_command_that_wrote_nothing_has_failed(demo):
    with pytest.raises(StageError, match="did not write"):
        demo(b="pass")


def test_an_interrupted_stage_goes_on_where_it_was(demo, tmp_path):
    """Its folder stays, its time adds up, and its results keep their name."""
    half = "half = p.parent / 'half'; done = half.exists(); half.touch(); done or sys.exit(3); p.write_text"
    program = WRITE.replace("p.write_text", half).replace("TEXT", "line")
    with pytest.raises(StageError):
        demo(a=program)
    first = stamps.read(tmp_path / "stamps" / "a.json")
    done, text = demo(a=program)
    assert "a (continues)" in text
    assert done["a"].run == first.run
    assert done["a"].seconds > first.seconds > 0
    assert (tmp_path / "logs" / "a.log").read_text().count("$ python") == 2


def test_a_folder_of_someone_elses_is_left_alone(demo, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "precious").touch()
    with pytest.raises(StageError, match="this command did not make it"):
        demo()
    assert (tmp_path / "a" / "precious").exists()


def test_a_broken_stamp_counts_as_none(tmp_path):
    path = tmp_path / "x.json"
    assert stamps.read(path) is None
    path.write_text("{")
    assert stamps.read(path) is None
    path.write_text(json.dumps({"other": 1}))
    assert stamps.read(path) is None


def test_keys_depend_on_command_inputs_and_configuration(tmp_path):
    conf = tmp_path / "conf.yaml"
    conf.write_text("a: 1")
    before = stamps.Stamp("k", "c")
    key = stamps.key_of(["x"], [before], [conf])
    assert key == stamps.key_of(["x"], [before], [conf])
    assert key != stamps.key_of(["y"], [before], [conf])
    assert key != stamps.key_of(["x"], [stamps.Stamp("k", "c")], [conf])  # another run
    conf.write_text("a: 2")
    assert key != stamps.key_of(["x"], [before], [conf])


def test_attempts_add_up():
    stamp = stamps.Stamp("k", "c").after(10, 2.0, 5.0, finished=False).after(4, 1.0, 1.0, finished=True)
    assert (stamp.seconds, stamp.peak_rss_gb, stamp.first_step_seconds, stamp.finished) == (14, 2.0, 5.0, True)


def test_the_commands_shown_can_be_typed(demo):
    _, text = demo()
    shown = next(line for line in text.splitlines() if line.startswith("b  $ "))
    assert shlex.split(shown.removeprefix("b  $ "))[:2] == ["python", "-c"]
    assert sys.executable not in text


def test_a_failure_ends_the_stage_beside_it_which_can_go_on(tmp_path):
    long = "import time, pathlib, sys; p = pathlib.Path(sys.argv[1]); p.mkdir(); time.sleep(60)"
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(tmp_path / 'long')!r}).exists(): time.sleep(0.01)\n"
    stages = [
        Stage("long", "long", ("-c", long, str(tmp_path / "long")), tmp_path / "long", tmp_path / "long" / "x"),
        Stage("bad", "bad", ("-c", wait + "raise SystemExit('no')"), tmp_path / "bad", tmp_path / "bad", light=True),
    ]
    text, start = io.StringIO(), time.monotonic()
    screen = Screen({"long": "long", "bad": "bad"}, Console(file=text))
    with pytest.raises(StageError, match="bad: failed with exit status 1"):
        Chain(tmp_path, stages).run(screen)
    assert time.monotonic() - start < 30
    assert "long  stopped" in text.getvalue()
    assert not stamps.read(tmp_path / "stamps" / "long.json").finished
    assert (tmp_path / "long").is_dir()
