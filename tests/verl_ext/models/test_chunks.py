"""The encoders' attention by length against transformers' own, which calls SDPA for each chunk."""

import copy

import pytest
import torch

pytestmark = pytest.mark.seam

FRAMES = {"equal": (200, 200, 200), "unequal": (200, 30, 450, 99, 30)}
"""Mel frames by clip; a chunk has 200."""
GRIDS = {"equal": ((2, 4, 4), (2, 4, 4)), "unequal": ((1, 4, 4), (2, 4, 12), (1, 20, 20), (3, 4, 4))}
"""Patches by video; a window has 8 × 8."""
CALLS = {"equal": (1, (1, 1)), "unequal": (4, (3, 3))}
"""Of SDPA: in a layer of the audio encoder; in one of the vision encoder with windows, and in one without."""


@pytest.fixture
def models(policy):
    """Ours, and one as transformers makes it."""
    theirs = copy.deepcopy(policy)
    for layer in theirs.modules():
        if hasattr(getattr(layer, "config", None), "_config"):
            layer.config = layer.config._config
    return copy.deepcopy(policy), theirs


def audio(model, kind):
    generator, lengths = torch.Generator().manual_seed(0), torch.tensor(FRAMES[kind])
    features = torch.randn(len(lengths), 128, int(lengths.max()), generator=generator)
    mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
    return model.thinker.get_audio_features(features, mask, None, return_dict=True).last_hidden_state


def video(model, kind):
    generator, grid = torch.Generator().manual_seed(1), torch.tensor(GRIDS[kind])
    pixels = torch.randn(int(grid.prod(1).sum()), 1176, generator=generator)
    return model.thinker.get_video_features(pixels, grid, return_dict=True).pooler_output


def with_gradients(model, encode, kind):
    model.zero_grad()
    output = encode(model, kind)
    (output * torch.linspace(-1, 1, output.numel()).view(output.shape)).sum().backward()
    return output.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["equal", "unequal"])
@pytest.mark.parametrize("encode", [audio, video])
def test_features_and_gradients_are_those_of_a_call_a_chunk(encode, kind, models):
    (ours, our_gradients), (theirs, their_gradients) = (with_gradients(model, encode, kind) for model in models)
    assert (ours - theirs).abs().max() <= 1e-6 * theirs.abs().max()
    assert set(our_gradients) == set(their_gradients)
    for name, gradient in their_gradients.items():
        assert (our_gradients[name] - gradient).abs().max() <= 1e-5 * gradient.abs().max(), name


@pytest.mark.parametrize("kind", ["equal", "unequal"])
def test_there_is_one_call_for_each_length(kind, models, monkeypatch):
    from verl_ext.models import chunks

    sdpa, shapes = chunks.scaled_dot_product_attention, []
    monkeypatch.setattr(
        chunks, "scaled_dot_product_attention", lambda q, *a, **k: shapes.append(tuple(q.shape)) or sdpa(q, *a, **k)
    )
    audio_calls, (with_windows, without) = CALLS[kind]
    audio(models[0], kind)
    assert len(shapes) == 2 * audio_calls
    shapes.clear()
    video(models[0], kind)
    assert len(shapes) == with_windows + without
    if kind == "equal":  # four frames pairs of 16 patches
        assert shapes == [(4, 4, 16, 16)] * 2
    shapes.clear()
    video(models[1], kind)
    assert shapes == []


def test_tokens_of_one_chunk_do_not_see_another(models):
    """Nor does a mistake in both encoders hide behind one in the other test."""
    generator = torch.Generator().manual_seed(0)
    from verl_ext.models.chunks import attend

    borders = torch.tensor([0, 3, 5, 8, 9])
    q, k, v = torch.randn(3, 1, 2, 9, 4, generator=generator)
    output, _ = attend(None, q, k, v, cu_seq_lens_q=borders, scaling=0.3)
    block = torch.bucketize(torch.arange(9), borders, right=True)[:, None] == torch.bucketize(
        torch.arange(9), borders, right=True
    )
    weights = (q @ k.transpose(-1, -2) * 0.3).masked_fill(~block, -torch.inf).softmax(-1)
    assert torch.allclose(output, (weights @ v).transpose(1, 2), atol=1e-6)


def test_another_attention_than_sdpa_is_left_alone(models, monkeypatch):
    from verl_ext.models import chunks

    expected = video(models[0], "unequal")
    models[0].thinker.visual.config._attn_implementation = "eager"
    models[1].thinker.visual.config._attn_implementation = "eager"
    monkeypatch.setattr(chunks, "attend", None)
    monkeypatch.setattr(chunks, "scaled_dot_product_attention", None)
    eager = video(models[0], "unequal")
    assert torch.equal(eager, video(models[1], "unequal"))
    assert torch.allclose(eager, expected, atol=1e-5)
