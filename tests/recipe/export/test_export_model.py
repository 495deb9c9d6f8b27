"""The export by its command: a Thinker's folder, and one put back into a complete Qwen2.5-Omni."""

import json
import subprocess
import sys

import pytest
import torch
from export_cases import complete_omni, run_folder
from made_clips import film
from safetensors.torch import load_file

from recipe.mer_r1.export.__main__ import main
from recipe.mer_r1.export.check import check_keys

pytestmark = pytest.mark.seam


@pytest.fixture(scope="module")
def state(tiny_model):
    return {name: tensor + 0.25 for name, tensor in load_file(tiny_model / "model.safetensors").items()}


@pytest.fixture(scope="module")
def omni(tiny_model, tmp_path_factory):
    return complete_omni(tiny_model, tmp_path_factory.mktemp("omni") / "whole")


def tensors(folder):
    found = {}
    for path in folder.glob("*.safetensors"):
        found |= load_file(path)
    return found


@pytest.mark.parametrize("actor", [True, False])
def test_transformers_loads_the_thinker(tiny_model, state, tmp_path, actor):
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    run = run_folder(tmp_path / "run", tiny_model, state, actor=actor)
    out = tmp_path / "out"
    assert main([str(run), "--out", str(out), "--dtype", "bfloat16"]) == 0
    loaded = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(out)
    assert loaded.dtype == torch.bfloat16
    assert all(torch.equal(t, state[f"thinker.{name}"].bfloat16()) for name, t in loaded.state_dict().items())
    assert check_keys(out).status == "ok"
    card = (out / "README.md").read_text()
    assert "| val-core/f1 | 0.3 |" in card
    if actor:  # its program runs as it stands, where the clip is; a short answer is enough
        film(out / "clip.mp4", [0.1 * k for k in range(20)], [[(0.0, 1.92)]])
        program = card.partition("```python\n")[2].partition("```")[0]
        program = program.replace("MODEL, CLIP", f"import os; os.chdir({str(out)!r}); MODEL, CLIP", 1)
        program = program.replace("max_new_tokens=512", "max_new_tokens=4")
        program = program.replace("50176", "3136").replace("100352", "3136")
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((out / "lineage.json").read_text())["step"] == 3
    (out / "model.safetensors").rename(out / "other")
    lacking = {name: t for name, t in load_file(out / "other").items() if "layers.0.mlp" not in name}
    from safetensors.torch import save_file

    save_file(lacking, out / "model.safetensors", metadata={"format": "pt"})
    assert check_keys(out).status == "failed"


def test_talker_and_token2wav_stay_bit_for_bit(tiny_model, state, omni, tmp_path):
    from transformers import Qwen2_5OmniForConditionalGeneration

    run, out = run_folder(tmp_path / "run", tiny_model, state), tmp_path / "out"
    assert main([str(run), "--out", str(out), "--full", str(omni)]) == 0
    before, after = tensors(omni), tensors(out)
    assert len(list(omni.glob("*.safetensors"))) > 1
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, state[name].to(tensor.dtype) if name in state else before[name]), name
    assert {name.partition(".")[0] for name in after} == {"thinker", "talker", "token2wav"}
    for name in ("config.json", "spk_dict.pt", "model.safetensors.index.json", "tokenizer.json"):
        assert (out / name).read_bytes() == (omni / name).read_bytes()
    assert (out / "README.base.md").read_text() == "the original card"
    assert "untouched" in (out / "README.md").read_text()
    model = Qwen2_5OmniForConditionalGeneration.from_pretrained(out)
    assert model.has_talker
    assert model.speaker_map == {"Chelsie": {"bos_token": 1}}
    assert torch.equal(model.thinker.lm_head.weight, state["thinker.lm_head.weight"].bfloat16())
    assert check_keys(out).status == "ok"


def test_another_thinker_is_refused(tiny_model, state, omni, tmp_path, capsys):
    run, out = run_folder(tmp_path / "run", tiny_model, state), tmp_path / "out"
    assert main([str(run), "--out", str(out), "--full", str(tiny_model)]) == 2
    assert "not a complete Qwen2.5-Omni folder: spk_dict.pt is missing" in capsys.readouterr().err
    shards = run / "checkpoints" / "global_step_3" / "actor"
    head = state["thinker.lm_head.weight"]
    torch.save(state | {"thinker.lm_head.weight": head[:-1]}, shards / "model_world_size_1_rank_0.pt")
    assert main([str(run), "--out", str(out), "--full", str(omni)]) == 2
    assert "of a different size: thinker.lm_head.weight" in capsys.readouterr().err
    torch.save(state | {"thinker.more": head}, shards / "model_world_size_1_rank_0.pt")
    assert main([str(run), "--out", str(out), "--full", str(omni)]) == 2
    assert "only in the checkpoint: thinker.more" in capsys.readouterr().err
    torch.save(state, shards / "model_world_size_1_rank_0.pt")
    config = json.loads((shards / "huggingface" / "config.json").read_text())
    config["thinker_config"]["position_id_per_seconds"] = 7
    (shards / "huggingface" / "config.json").write_text(json.dumps(config))
    assert main([str(run), "--out", str(out), "--full", str(omni)]) == 2
    assert "position_id_per_seconds 25, ours 7" in capsys.readouterr().err
    assert not out.exists()
