import json

import pytest
import tiny_clips

pytestmark = pytest.mark.seam

TEXTS = [f"What does the person feel?\n<think>x</think><answer>{word}</answer>" for word in tiny_clips.WORDS]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    from verl_ext.models.tiny import make_tiny

    out = tmp_path_factory.mktemp("tiny")
    return out, make_tiny(TEXTS, tiny_clips.WORDS, out, vocab_size=512)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_same_seed_same_bytes_other_seed_other_weights_only(made, tmp_path):
    from verl_ext.models.tiny import make_tiny

    make_tiny(TEXTS, tiny_clips.WORDS, tmp_path / "same", vocab_size=512)
    make_tiny(TEXTS, tiny_clips.WORDS, tmp_path / "other", vocab_size=512, seed=1)
    first, same, other = contents(made[0]), contents(tmp_path / "same"), contents(tmp_path / "other")
    assert first == same
    assert {name for name in first if first[name] != other[name]} == {"model.safetensors"}


def test_layout_is_the_full_omni_one(made):
    from safetensors import safe_open

    folder, counts = made
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["Qwen2_5OmniModel"]
    assert config["enable_audio_output"] is False
    assert config["thinker_config"]["text_config"]["vocab_size"] == counts["vocab"]
    with safe_open(folder / "model.safetensors", "pt") as file:
        names = list(file.keys())
        total = sum(file.get_tensor(name).numel() for name in names)
    assert all(name.startswith("thinker.") for name in names)
    assert total == counts["total"] == counts["text"] + counts["audio"] + counts["vision"]
    assert 1e6 < total < 4e6


def test_transformers_loads_every_tensor_and_the_ids_agree(made):
    from transformers import AutoConfig, AutoProcessor

    from verl_ext.models.model import Qwen2_5OmniThinkerPolicy

    folder, _ = made
    _, report = Qwen2_5OmniThinkerPolicy.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    thinker, processor = AutoConfig.from_pretrained(folder).thinker_config, AutoProcessor.from_pretrained(folder)
    id_of = processor.tokenizer.convert_tokens_to_ids
    assert thinker.video_token_id == id_of("<|VIDEO|>") == id_of(processor.video_token)
    assert thinker.audio_token_id == id_of("<|AUDIO|>") == id_of(processor.audio_token)
    assert thinker.image_token_id == id_of("<|IMAGE|>") == id_of(processor.image_token)
    assert thinker.vision_start_token_id == id_of("<|vision_bos|>")
    assert thinker.audio_start_token_id == id_of("<|audio_bos|>")
    assert processor.feature_extractor.chunk_length == 10


def test_rope_sections_fill_half_a_head():
    from verl_ext.models.tiny import TinySize, tiny_config
    from verl_ext.models.tiny_tokenizer import train_tokenizer

    tokenizer = train_tokenizer(TEXTS, tiny_clips.WORDS, 512)
    for hidden, heads in ((128, 4), (256, 4), (64, 4), (192, 6)):
        text = tiny_config(tokenizer, TinySize(hidden=hidden, heads=heads)).thinker_config.text_config
        assert sum(text.rope_parameters["mrope_section"]) == hidden // heads // 2


def test_weights_are_drawn_as_said(made):
    from safetensors.torch import load_file

    state = load_file(made[0] / "model.safetensors")
    matrix = state["thinker.model.layers.0.mlp.gate_proj.weight"]
    assert matrix.std().item() == pytest.approx(0.05, rel=0.03)
    assert matrix.mean().item() == pytest.approx(0, abs=0.002)
    assert (state["thinker.model.layers.0.self_attn.q_proj.bias"] == 0).all()
    assert (state["thinker.model.norm.weight"] == 1).all()
    assert (state["thinker.audio_tower.layers.0.self_attn_layer_norm.weight"] == 1).all()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"hidden": 100}, "hidden 100"),
        ({"kv_heads": 3}, "kv_heads 3"),
        ({"layers": 0}, "layers must be positive"),
        ({"tower_hidden": 48}, "multiple of 32"),
    ],
)
def test_impossible_sizes_are_named(sizes, message):
    from verl_ext.models.tiny import TinySize

    with pytest.raises(ValueError, match=message):
        TinySize(**sizes)


def test_command_line(tmp_path, capsys):
    from verl_ext.models.tiny import main

    shard = tiny_clips.write_shard(tmp_path / "clips")
    out = tmp_path / "model"
    assert main(["--shards", str(shard), "--out", str(out), "--layers", "2", "--vocab-size", "600"]) == 0
    printed = capsys.readouterr().out
    assert "parameters (text" in printed
    assert "5 answer words" in printed
    assert json.loads((out / "config.json").read_text())["thinker_config"]["text_config"]["num_hidden_layers"] == 2


def test_command_line_names_what_is_wrong(tmp_path, capsys):
    from verl_ext.models.tiny import main

    assert main(["--shards", str(tmp_path / "none.parquet"), "--out", str(tmp_path / "m")]) == 2
    assert "none.parquet: no such file" in capsys.readouterr().err
    (tmp_path / "bad.parquet").write_text("not parquet")
    assert main(["--shards", str(tmp_path / "bad.parquet"), "--out", str(tmp_path / "m")]) == 2
    assert "bad.parquet: not a shard" in capsys.readouterr().err
    shard = tiny_clips.write_shard(tmp_path / "clips")
    assert main(["--shards", str(shard), "--out", str(tmp_path / "m"), "--hidden", "100"]) == 2
    assert "hidden 100" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_checkpoint_refuses_what_vllm_could_not_load(made, tmp_path):
    import torch
    from transformers import AutoConfig, AutoProcessor

    from verl_ext.models.checkpoint import save_full_omni

    config, processor = AutoConfig.from_pretrained(made[0]), AutoProcessor.from_pretrained(made[0])
    with pytest.raises(ValueError, match="no tensors"):
        save_full_omni(tmp_path, {}, config, processor)
    with pytest.raises(ValueError, match="not a full Omni config"):
        save_full_omni(tmp_path, {"a": torch.zeros(1)}, config.thinker_config, processor)


def test_checkpoint_keeps_names_and_casts(made, tmp_path):
    import torch
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoProcessor

    from verl_ext.models.checkpoint import save_full_omni

    state = {"thinker.a": torch.ones(2), "b": torch.arange(3)}
    config, processor = AutoConfig.from_pretrained(made[0]), AutoProcessor.from_pretrained(made[0])
    save_full_omni(tmp_path, state, config, processor, torch.bfloat16)
    saved = load_file(tmp_path / "model.safetensors")
    assert {name: tensor.dtype for name, tensor in saved.items()} == {
        "thinker.a": torch.bfloat16,
        "thinker.b": torch.int64,
    }
    assert AutoConfig.from_pretrained(tmp_path).dtype == torch.bfloat16
    assert config.dtype == torch.float32, "the config that was handed in is left alone"


def test_checkpoint_takes_the_front_of_a_longer_buffer(made, tmp_path):
    import torch
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoProcessor

    from verl_ext.models.checkpoint import save_full_omni

    config, processor = AutoConfig.from_pretrained(made[0]), AutoProcessor.from_pretrained(made[0])
    save_full_omni(tmp_path, {"a": torch.arange(12.0).view(6, 2)[:5]}, config, processor)
    assert torch.equal(load_file(tmp_path / "model.safetensors")["thinker.a"], torch.arange(10.0).view(5, 2))


def test_an_earlier_export_leaves_nothing_behind(made, tmp_path, monkeypatch):
    """Neither a shard of other sizes nor, while the new one is being written, a config that says it is complete."""
    import torch
    from transformers import AutoConfig, AutoProcessor

    from verl_ext.models import checkpoint

    config, processor = AutoConfig.from_pretrained(made[0]), AutoProcessor.from_pretrained(made[0])
    monkeypatch.setattr(checkpoint, "_MAX_SHARD", "1KB")
    checkpoint.save_full_omni(tmp_path, {f"t{i}": torch.zeros(200) for i in range(3)}, config, processor)
    assert len([*tmp_path.glob("*.safetensors")]) == 3
    assert (tmp_path / "model.safetensors.index.json").exists()
    (tmp_path / "consolidated.safetensors").touch()
    (tmp_path / "notes.txt").touch()

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_torch_state_dict", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            checkpoint.save_full_omni(tmp_path, {"a": torch.zeros(1)}, config, processor)
    assert not (tmp_path / "config.json").exists()

    checkpoint.save_full_omni(tmp_path, {"a": torch.zeros(1)}, config, processor)
    assert [path.name for path in tmp_path.glob("*safetensors*")] == ["model.safetensors"]
    assert (tmp_path / "config.json").exists()
    assert (tmp_path / "notes.txt").exists()


def test_what_cannot_be_saved_leaves_an_earlier_export_alone(made, tmp_path):
    import torch
    from transformers import AutoConfig, AutoProcessor

    from verl_ext.models.checkpoint import save_full_omni

    config, processor = AutoConfig.from_pretrained(made[0]), AutoProcessor.from_pretrained(made[0])
    save_full_omni(tmp_path, {"a": torch.zeros(1)}, config, processor)
    with pytest.raises(ValueError, match="no tensors"):
        save_full_omni(tmp_path, {}, config, processor)
    assert (tmp_path / "config.json").exists()
    assert (tmp_path / "model.safetensors").exists()
