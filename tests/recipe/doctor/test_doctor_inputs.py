"""The doctor on presets, wheels, codecs, voices and model folders."""

import json
import shutil

import numpy as np
import pytest
from doctor_cases import subject
from safetensors.numpy import save_file

from recipe.mer_r1.doctor import inputs
from recipe.mer_r1.doctor.outcome import Subject, run

PARTS = ("config.json", "tokenizer.json", "processor_config.json")


@pytest.fixture
def folder(tmp_path):
    """A model folder that has every file; what is in them is for each test to say."""
    for name in PARTS:
        (tmp_path / name).write_text("{}")
    save_file({"thinker.a": np.zeros((4, 4), np.float32)}, tmp_path / "model.safetensors")
    return tmp_path


def model(path):
    return run(inputs.Check("model", inputs.check_model), subject(model=str(path)), composes=True)


def test_a_preset_that_does_not_exist():
    outcome = inputs.check_preset(Subject("nobody"))
    assert outcome.status == "failed"
    assert "nobody" in outcome.seen
    assert "tiny" in outcome.fix
    assert inputs.check_preset(Subject("tiny")).status == "ok"


def test_wheels(tmp_path):
    assert "mer-r1-builtin" in inputs.check_wheels(Subject("tiny")).seen
    outcome = inputs.check_wheels(Subject("tiny", wheels=str(tmp_path)))
    assert outcome.status == "failed"
    assert "wheel1.xlsx" in outcome.seen


def test_official_wheels(shared):
    outcome = inputs.check_wheels(Subject("tiny", wheels=str(shared / "emotion_wheel" / "mer2025")))
    assert outcome.status == "ok"
    assert "mer2025 (official), sha256" in outcome.seen


def test_codecs():
    outcome = inputs.check_codecs(subject())
    assert outcome.status == "ok"
    assert "h264 (8, 3, 64, 64)" in outcome.seen


def test_an_encoder_that_gives_silence(monkeypatch):
    from recipe.mer_r1.doctor import clip

    monkeypatch.setattr(clip, "_tone", lambda: np.zeros(clip.SECONDS * clip.RATE))
    outcome = inputs.check_codecs(subject())
    assert (outcome.status, "silence" in outcome.seen) == ("failed", True)


def test_an_encoder_that_is_not_built_in(monkeypatch):
    import av

    opened = av.open

    def without_h264(*arguments, **named):
        container = opened(*arguments, **named)
        if "w" not in arguments:
            return container

        class Poor:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                container.close()

            def add_stream(self, name, **_):
                return container.add_stream(f"no_{name}")

        return Poor()

    monkeypatch.setattr(av, "open", without_h264)
    result = run(inputs.Check("codecs", inputs.check_codecs), subject(), composes=True)
    assert result.status == "failed"
    assert "no_libx264" in result.seen


def test_ffmpeg_is_only_told(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert inputs.check_ffmpeg(subject()) == inputs.ok("not installed (not needed: PyAV contains the libraries)")


def test_without_espeak_a_warning(monkeypatch):
    from data_prep.micro import voice

    monkeypatch.setattr(voice, "espeak_available", lambda: False)
    assert inputs.check_espeak(subject()).status == "warning"


def test_a_presets_model_may_not_exist_yet_but_a_named_one_must(tmp_path):
    outcome = inputs.check_model(subject(f"preset.model_path={tmp_path}/none"))
    assert (outcome.status, "main_sft" in outcome.fix) == ("warning", True)
    assert model(tmp_path / "none").status == "failed"


@pytest.mark.parametrize("part", [*PARTS, "model.safetensors"])
def test_a_model_folder_that_lacks_a_file(folder, part):
    (folder / part).unlink()
    result = model(folder)
    assert result.status == "failed"
    assert "the folder has no" in result.seen


def test_weights_that_were_cut_off(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    result = model(folder)
    assert (result.status, "model.safetensors cannot be read" in result.seen) == ("failed", True)


def test_weights_that_the_index_names_and_nobody_has(folder):
    names = {"thinker.a": "model.safetensors", "thinker.b": "model-2.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    result = model(folder)
    assert (result.status, "model-2.safetensors, which does not exist" in result.seen) == ("failed", True)


def test_another_architecture(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    result = model(folder)
    assert (result.status, "the model type is qwen2" in result.seen) == ("failed", True)


def test_a_config_that_is_no_json_fails_with_the_exceptions_name(folder):
    (folder / "config.json").write_text("{")
    result = model(folder)
    assert result.status == "failed"
    assert "Error" in result.seen


def test_a_whole_model(tiny_model):
    result = model(tiny_model)
    assert result.status == "ok", result
    assert "qwen2_5_omni" in result.seen


def test_weights_without_a_thinker(tiny_model, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    for file in copy.glob("*.safetensors"):
        save_file({"lm_head.weight": np.zeros((2, 2), np.float32)}, file)
    result = model(copy)
    assert (result.status, "thinker." in result.seen) == ("failed", True)
