"""A published architecture with small widths: what is kept, and that it recites."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.seam
NAMES = ("Qwen/Qwen2.5-Omni-3B", "Qwen/Qwen2.5-Omni-7B")


@pytest.fixture(scope="module", params=NAMES)
def configs(request):
    from verl_ext.models import reduced
    from verl_ext.models.published import published_config

    published = published_config(request.param)
    return published.thinker_config, reduced.reduce_config(published, 2).thinker_config


def test_heads_positions_tokens_and_patches_are_the_published_ones(configs):
    before, after = configs
    assert [c.text_config.hidden_size // c.text_config.num_attention_heads for c in configs] == [128, 128]
    assert [c.vision_config.hidden_size // c.vision_config.num_heads for c in configs] == [80, 80]
    assert [c.audio_config.d_model // c.audio_config.encoder_attention_heads for c in configs] == [64, 64]
    assert after.text_config.rope_parameters["mrope_section"] == [16, 24, 24]
    assert after.text_config.rope_parameters["rope_theta"] == 1e6
    assert after.text_config.vocab_size == before.text_config.vocab_size in (151_936, 152_064)
    for key in ("patch_size", "temporal_patch_size", "spatial_merge_size", "window_size"):
        assert getattr(after.vision_config, key) == getattr(before.vision_config, key)
    for key in ("num_mel_bins", "n_window", "max_source_positions"):
        assert getattr(after.audio_config, key) == getattr(before.audio_config, key)
    for key in ("audio_token_id", "video_token_id", "vision_start_token_id", "seconds_per_chunk", "user_token_id"):
        assert getattr(after, key) == getattr(before, key)
    assert not after.tie_word_embeddings
    stacks = (after.text_config.num_hidden_layers, after.vision_config.depth, after.audio_config.encoder_layers)
    assert stacks == (2, 2, 2)
    assert after.text_config.layer_types == ["full_attention"] * 2


def test_published_sizes_are_what_the_rehearsal_says_it_changes(configs):
    from recipe.mer_r1.rehearse import report

    of = NAMES[configs[0].text_config.hidden_size == 3584]
    lines = report.model_differences(of, 2)
    assert f"text_config.num_hidden_layers: {configs[0].text_config.num_hidden_layers} → 2   (layers)" in lines
    assert any(line.startswith("vision_config.fullatt_block_indexes: [7, 15, 23, 31] → [1]") for line in lines)


def test_unknown_models_and_layers_are_refused(tmp_path):
    from verl_ext.models import reduced

    with pytest.raises(reduced.ReducedError, match="not a folder with a Qwen"):
        reduced.read_config(str(tmp_path))
    with pytest.raises(reduced.ReducedError, match="choose 1 to 28"):
        reduced.reduce_config(reduced.read_config(NAMES[1]), 29)


@pytest.fixture(scope="module")
def recited():
    """(model, texts) of a small vocabulary: two texts that share a beginning, and one that repeats a pair of tokens."""
    import torch
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    from verl_ext.models import reciting, reduced
    from verl_ext.models.published import published_config
    from verl_ext.models.tiny import draw_weights

    config = reduced.reduce_config(published_config(NAMES[1]), 2).thinker_config
    config.text_config.vocab_size = 400
    for key in ("audio", "image", "video"):
        setattr(config, f"{key}_token_id", 399)
    with torch.device("meta"):
        meta = Qwen2_5OmniThinkerForConditionalGeneration(config)
    state = draw_weights(meta, 0.02, 0)
    texts = [[1, 2, 3, *range(10, 50)], [1, 2, 3, *range(60, 90)], [1, 2, 4, 100, 101, 102, 5, 101, 102, 6, 101, 103]]
    reciting.teach(state, config.text_config, texts, 0)
    model = Qwen2_5OmniThinkerForConditionalGeneration(config)
    model.load_state_dict(state)
    return model.eval(), texts


def log_probs(model, ids, positions=None):
    """Of each token of `ids` but the first."""
    import torch

    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]), position_ids=positions, use_cache=False).logits[0, :-1]
    return logits.log_softmax(-1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]


def test_texts_are_recited_after_other_words(recited):
    model, texts = recited
    before = list(range(200, 320))
    for text in texts:
        found = log_probs(model, before + text)[len(before) + 2 :]
        assert found.min() > (-1.2 if text[2] == 3 else -0.1)  # two of them go on differently after 1, 2, 3
        assert found[1:].min() > -0.1


def test_a_wrong_position_is_far_off(recited):
    import torch

    model, texts = recited
    text = texts[2]
    right = torch.arange(len(text)).expand(3, 1, -1)
    assert (log_probs(model, text, right) - log_probs(model, text)).abs().max() < 1e-4
    for wrong in (4 * right, 0 * right):
        assert (log_probs(model, text, right) - log_probs(model, text, wrong))[2:].max() > 1
