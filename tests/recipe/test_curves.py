"""`curves`: what is read of RL and SFT runs, the tables, the picture, and runs that do not go together."""

import json

import pytest

from recipe.mer_r1 import curves


def write(folder, lines):
    folder.mkdir()
    text = "".join(json.dumps({"step": step, "data": data}) + "\n" for step, data in lines)
    (folder / "metrics.jsonl").write_text(text)
    return folder


def scored(slow, fast, source="micro"):
    modes = {"slow": slow, "fast": fast}
    return {
        f"val-aux/{source}/{mode}/{score}/mean@1": value
        for mode, value in modes.items()
        for score in ("f1", "recall", "precision", "format")
    }


@pytest.fixture
def sft(tmp_path):
    lines = [(step, {"train/loss": 3.0 - step / 10}) for step in range(1, 9)]
    lines += [(4, scored(0.25, 0.5)), (8, scored(0.75, 0.5) | scored(0.25, 1.0, "other") | {"val/loss": 1.25})]
    return write(tmp_path / "sft", lines)


def test_an_sft_run_has_the_scores_of_its_answers_and_its_losses(sft):
    run = curves.read_sft_run(sft)
    assert run["slow/f1"] == [(4, 0.25), (8, 0.5)]  # the plain mean over the sources
    assert run["fast/recall"] == [(4, 0.5), (8, 0.75)]
    assert run["val/loss"] == [(8, 1.25)]
    assert run["loss"][0] == (1, 2.9)
    table = curves.sft_table({"mine": run})
    assert "| mine | slow | 4 → 8 | 0.250 → 0.500 | 0.250 → 0.500 | 0.250 → 0.500 |" in table
    assert "| mine | fast | 4 → 8 | 0.500 → 0.750 |" in table


def test_sft_runs_are_drawn_apart_from_rl_runs(sft, tmp_path, capsys):
    rl = write(tmp_path / "rl", [(1, {"reward/f1": 0.5, "reward/recall": 0.5, "reward/precision": 0.5})])
    assert curves.main([f"mine={sft}", "--out", str(tmp_path / "sft.png")]) == 0
    assert (tmp_path / "sft.png").stat().st_size > 10_000
    assert "| mine | slow |" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        curves.main([f"mine={sft}", f"theirs={rl}"])
    assert ended.value.code == 2
    assert "mine: SFT runs with scores, which cannot be in one figure with theirs" in capsys.readouterr().err


def test_an_sft_run_without_scores_says_how_to_get_them(tmp_path, capsys):
    plain = write(tmp_path / "plain", [(1, {"train/loss": 1.0})])
    assert curves.read_sft_run(plain) == {}
    with pytest.raises(SystemExit):
        curves.main([str(plain)])
    assert "preset.sft.score_every" in capsys.readouterr().err


RL = {"reward/f1": 0.5, "reward/recall": 0.25, "reward/precision": 0.75}


def test_two_runs_of_one_folder_name_are_refused(tmp_path, capsys):
    one, two = (tmp_path / name for name in ("baseline-1", "mer_r1-1"))
    for folder in (one, two):
        folder.mkdir()
        write(folder / "rl", [(1, RL)])
    with pytest.raises(SystemExit) as ended:
        curves.main([str(one / "rl"), str(two / "rl")])
    assert ended.value.code == 2
    assert "two runs have the name rl: give them different names with NAME=RUN_DIR" in capsys.readouterr().err
    assert curves.main([f"one={one / 'rl'}", str(two / "rl")]) == 0
    table = capsys.readouterr().out
    assert "| one | 1 |" in table
    assert "| rl | 1 |" in table


def test_a_curve_has_its_values_at_their_steps(tmp_path, monkeypatch):
    """A margin is not there at a step where it is undefined, and verl writes NaN as null."""
    margin = "confidence/margin_slow/mean"
    lines = [
        (0, {"val-core/x": 1.0}),
        (3, RL),
        (4, RL | {margin: None}),
        (5, RL | {margin: 1.5}),
        (7, RL | {margin: 2.5}),
    ]
    run = curves.read_run(write(tmp_path / "rl", lines))
    assert run["reward/f1"] == [(3, 0.5), (4, 0.5), (5, 0.5), (7, 0.5)]
    assert run[margin] == [(5, 1.5), (7, 2.5)]
    assert run["confidence/margin_fast/mean"] == []
    assert "| mine | 4 | 0.250 ± 0.000 → 0.250 ± 0.000 |" in curves.table({"mine": run})
    drawn = []
    monkeypatch.setattr("matplotlib.axes.Axes.plot", lambda self, x, y, *_, **__: drawn.append((list(x), list(y))))
    monkeypatch.setattr("matplotlib.figure.Figure.legend", lambda *_, **__: None)
    curves.draw({"mine": run}, tmp_path / "rl.png")
    assert drawn[0] == ([3, 4, 5, 7], [0.25] * 4)  # recall
    assert drawn[-1] == ([5, 7], [1.5, 2.5])  # the margin of slow thinking
