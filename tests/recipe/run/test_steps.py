"""The metrics file of a run: read, merged, and cut back at a resume."""

import json

import pytest

from recipe.mer_r1.run import steps


def write(path, *entries, end="\n"):
    lines = (json.dumps({"step": step, "data": data}, ensure_ascii=False) for step, data in entries)
    path.write_text("\n".join(lines) + end, encoding="utf-8")


def test_lines_of_a_step_are_merged_and_a_later_one_wins(tmp_path):
    write(tmp_path / "m", (2, {"a": 1, "b": 1}), (1, {"a": 0}), (2, {"b": 2}))
    assert steps.read(tmp_path / "m") == {1: {"a": 0}, 2: {"a": 1, "b": 2}}
    assert list(steps.read(tmp_path / "m")) == [1, 2]


@pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\u0085", "高兴"])
def test_what_python_takes_for_a_line_end_is_text(tmp_path, odd):
    write(tmp_path / "m", (1, {"reply": f"so{odd}so"}), (2, {"reply": odd}))
    assert steps.read(tmp_path / "m")[1] == {"reply": f"so{odd}so"}
    steps.keep_until(tmp_path / "m", 1)
    assert steps.read(tmp_path / "m") == {1: {"reply": f"so{odd}so"}}


def test_a_resume_drops_later_steps_and_the_line_cut_off_by_a_kill(tmp_path):
    path = tmp_path / "m"
    write(path, (1, {}), (2, {"reply": "高"}), (3, {}))
    path.write_bytes(path.read_bytes() + '{"step": 2, "data": {"reply": "高'.encode()[:-1])
    assert list(steps.read(path)) == [1, 2, 3]
    steps.keep_until(path, 2)
    assert path.read_text(encoding="utf-8").count("\n") == 2
    assert list(steps.read(path)) == [1, 2]


def test_a_full_disk_at_a_resume_loses_no_step(tmp_path, monkeypatch):
    path = tmp_path / "m"
    write(path, *((step, {"a": step}) for step in range(1, 901)))

    def full(file, *_, **__):
        file.open("w").close()  # opened, which truncates, and nothing can be written
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        steps.keep_until(path, 900)
    assert [*steps.read(path)] == [*range(1, 901)]


def test_a_run_from_the_start_has_no_lines(tmp_path):
    path = tmp_path / "run" / "m"
    steps.keep_until(path, 0)
    assert path.read_bytes() == b""
    assert steps.read(path) == {}
    write(path, (1, {}))
    steps.keep_until(path, 0)
    assert steps.read(path) == {}
