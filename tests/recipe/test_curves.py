"""`curves` of SFT runs: what is read, the table, and runs that do not go together."""

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
