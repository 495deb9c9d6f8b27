"""Features of frozen encoders by the content of clips: what is a hit, what is computed, what fits."""

import pytest
import torch
from omni_cases import encoder, messages

from verl_ext.models.kept_features import (
    FeatureStore,
    KeptAudio,
    KeptVision,
    fingerprint_of_weights,
    fingerprints,
)


def clip(rows, seed, columns=24):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.uint8])
def test_a_fingerprint_is_of_the_content_wherever_the_clip_stands(dtype):
    one, two = clip(7, 0).mul(9).abs().to(dtype), clip(30, 1).mul(9).abs().to(dtype)
    alone = fingerprints([one])[0]
    assert fingerprints([two, one, two])[1] == fingerprints([one.clone(), two])[0] == alone
    assert len({alone, *fingerprints([two, one])}) == 2


def test_any_change_of_a_clip_is_another_fingerprint():
    one = clip(6, 0)
    changed = {
        "a sign": one.clone(),
        "the last bit": one.clone(),
        "all signs": -one,
        "frames in another order": one.flip(0),
        "columns in another order": one.flip(1),
        "two rows exchanged": one[[1, 0, 2, 3, 4, 5]],
        "shorter": one[:-1],
        "longer by zeros": torch.cat([one, torch.zeros(1, 24)]),
        "another shape": one.reshape(12, 12),
        "another dtype": one.view(torch.int32),
        "zeros": torch.zeros_like(one),
    }
    changed["a sign"][3, 4] *= -1
    changed["the last bit"].view(torch.int32)[5, 23] ^= 1
    found = {name: fingerprints([values])[0] for name, values in changed.items()}
    assert len({fingerprints([one])[0], *found.values()}) == len(found) + 1, found


def test_blocks_do_not_change_a_fingerprint(monkeypatch):
    parts = [clip(50, 0), clip(3, 1)]
    whole = fingerprints(parts)
    monkeypatch.setattr("verl_ext.models.kept_features._BLOCK", {"cpu": 100})
    assert fingerprints(parts) == whole


def test_weights_count_as_the_forward_computes_with_them():
    module = torch.nn.Linear(4, 3)
    low = torch.nn.Linear(4, 3)
    low.load_state_dict(module.state_dict())
    low.bfloat16()
    assert fingerprint_of_weights(module, torch.bfloat16) == fingerprint_of_weights(low, torch.bfloat16)
    assert fingerprint_of_weights(module, torch.float32) != fingerprint_of_weights(low, torch.float32)
    before = fingerprint_of_weights(module, torch.float32)
    module.bias.data[2] += 1e-6
    assert fingerprint_of_weights(module, torch.float32) != before
    module.register_buffer("angles", torch.ones(2))
    with_buffer = fingerprint_of_weights(module, torch.bfloat16)
    module.angles[0] += 1e-4  # not in bf16, as buffers are not
    assert fingerprint_of_weights(module, torch.bfloat16) != with_buffer


def test_a_store_keeps_copies_up_to_its_limit():
    store = FeatureStore(limit=100)
    batch = torch.ones(4, 10)  # 160 bytes
    store.put("a", batch[:2])
    store.put("b", batch[2:])  # does not fit
    store.put("c", batch[0, :5])
    assert (store.size, len(store), store.get("b")) == (100, 2, None)
    batch += 1
    assert store.get("a").tolist() == [[1.0] * 10] * 2
    store.clear()
    assert (store.size, len(store), store.get("a")) == (0, 0, None)
    store.put("b", batch[2:])
    assert store.get("b") is not None


@pytest.fixture
def towers(tiny_model):
    """A policy of its own, its kept towers, and the clips that its encoders read in each call."""
    from verl_ext.models.model import Qwen2_5OmniThinkerPolicy

    policy = Qwen2_5OmniThinkerPolicy.from_pretrained(tiny_model, dtype=torch.float32, attn_implementation="sdpa")
    thinker, read = policy.thinker, {"vision": [], "audio": []}
    plain = {"vision": thinker.visual.forward, "audio": thinker.audio_tower.forward}
    thinker.visual.forward = lambda hidden_states, grid_thw, **kwargs: (
        read["vision"].append(len(grid_thw)) or plain["vision"](hidden_states, grid_thw=grid_thw, **kwargs)
    )
    thinker.audio_tower.forward = lambda features, feature_lens, **kwargs: (
        read["audio"].append(len(feature_lens)) or plain["audio"](features, feature_lens=feature_lens, **kwargs)
    )
    store = FeatureStore(limit=2**20)
    kept = KeptVision(thinker.visual, store), KeptAudio(thinker.audio_tower, store)
    return thinker, kept, read


@pytest.fixture(scope="module")
def clips(processor, rows, long_row):
    """Encoded clips of different sizes and lengths."""
    sizes = [
        (rows[0], {}),
        (rows[1], {"fps": 4.0, "max_frames": 8}),
        (long_row, {"max_frames": 12, "max_seconds": 8.0}),
    ]
    return [encoder(processor, **media)(messages(row)).inputs for row, media in sizes]


def features(thinker, clips):
    from verl.utils.model import extract_multi_modal_inputs

    inputs = extract_multi_modal_inputs(clips)
    video = thinker.get_video_features(inputs["pixel_values_videos"], inputs["video_grid_thw"])
    audio = thinker.get_audio_features(inputs["input_features"], inputs["feature_attention_mask"])
    return video.pooler_output, audio.last_hidden_state


@pytest.mark.seam
def test_only_clips_that_are_not_kept_are_read(towers, clips):
    thinker, kept, read = towers
    one, two, three = clips
    batches = [[one, two], [two, one], [two, three, two], [three]]
    expected = [features(thinker, batch) for batch in batches]
    assert read == {"vision": [2, 2, 3, 1], "audio": [2, 2, 3, 1]}
    for tower in kept:
        tower.active = True
    for found in read.values():
        found.clear()
    for batch, wanted in zip(batches, expected, strict=True):
        for ours, plain in zip(features(thinker, batch), wanted, strict=True):
            torch.testing.assert_close(ours, plain, atol=1e-6, rtol=0)
            assert not ours.requires_grad
    assert read == {"vision": [2, 1], "audio": [2, 1]}
    # The same batch again has the same bits.
    assert all(map(torch.equal, features(thinker, batches[2]), features(thinker, batches[2])))


@pytest.mark.seam
def test_other_weights_and_a_full_store_are_computed(towers, clips):
    thinker, kept, read = towers
    for tower in kept:
        tower.active = True
    before = features(thinker, clips)
    thinker.visual.merger.mlp[0].weight.data *= 2
    kept[0].weights = "others"
    changed = features(thinker, clips)
    assert read == {"vision": [3, 3], "audio": [3]}
    assert not torch.equal(changed[0], before[0])
    kept[0].store.clear()
    kept[0].store.limit = before[0].nbytes // 2  # the clips are not equally long
    features(thinker, clips)
    assert 0 < kept[0].store.size <= kept[0].store.limit
    features(thinker, clips)
    assert 0 < read["vision"][-1] + read["audio"][-1] < 6
