"""FLOPs counted from a config, against what torch counts while a tiny Thinker runs; verl's meter knows the model."""

import pytest

from verl_ext.models import flops

pytestmark = pytest.mark.seam


@pytest.fixture(scope="module")
def thinker(tiny_model):
    """In eager attention, whose matrix products torch's counter sees."""
    from transformers import AutoConfig
    from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniThinkerForConditionalGeneration

    config = AutoConfig.from_pretrained(tiny_model).thinker_config
    for part in (config, config.audio_config, config.vision_config, config.text_config):
        part._attn_implementation = "eager"
    return Qwen2_5OmniThinkerForConditionalGeneration(config).eval()


def counted(run):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops()


def test_text(thinker):
    import torch

    config, length = thinker.config.text_config, 48
    embedded = torch.zeros(1, length, config.hidden_size)
    positions = torch.arange(length).expand(3, 1, length)

    def run():
        thinker.lm_head(thinker.model(inputs_embeds=embedded, position_ids=positions)[0])

    # torch computes all of the attention matrix; half of it is counted here.
    heads = config.num_attention_heads * (config.hidden_size // config.num_attention_heads)
    other_half = 2 * length**2 * heads * config.num_hidden_layers
    assert flops.text_forward(config, [length]) + other_half == pytest.approx(counted(run), rel=1e-2)
    assert flops.text_forward(config, [length, length]) == 2 * flops.text_forward(config, [length])
    without_head = flops.text_forward(config, [length], head_positions=0)
    head = 2 * length * config.hidden_size * config.vocab_size
    assert flops.text_forward(config, [length]) - without_head == head


def test_a_shared_prompt(thinker):
    config, prompt = thinker.config.text_config, 40
    assert flops.shared_prompt_forward(config, prompt, [8]) == flops.text_forward(config, [48])
    # Three continuations in one row: two prompts less than in rows of their own, attention to the prompt included.
    apart = flops.text_forward(config, [48, 43, 45], head_positions=16)
    together = flops.shared_prompt_forward(config, prompt, [8, 3, 5], head_positions=16)
    assert apart - together == 2 * flops.text_forward(config, [prompt], head_positions=0)


@pytest.mark.parametrize("grid", [(2, 4, 4), (3, 12, 20), (1, 10, 6)])
def test_vision(thinker, grid):
    """Frames smaller than a window, of several windows, and of windows that are cut."""
    import torch

    config = thinker.config.vision_config
    times, rows, columns = grid
    pixels = config.in_channels * config.temporal_patch_size * config.patch_size**2
    patches = torch.zeros(times * rows * columns, pixels)
    run = counted(lambda: thinker.visual(patches, grid_thw=torch.tensor([grid])))
    assert flops.vision_forward(config, grid) == run


@pytest.mark.parametrize("mel_frames", [200, 600])
def test_audio(thinker, mel_frames):
    """Whole chunks: a rest is padded to one by transformers, which is work without use."""
    import torch

    config = thinker.config.audio_config
    sound = torch.zeros(config.num_mel_bins, mel_frames)
    lengths = {"feature_lens": torch.tensor([mel_frames]), "aftercnn_lens": torch.tensor([mel_frames // 2])}
    assert flops.audio_forward(config, mel_frames) == counted(lambda: thinker.audio_tower(sound, **lengths))


def test_verls_meter_knows_the_model(tiny_model):
    import verl  # noqa: F401  loads the plugin
    from transformers import AutoConfig
    from verl.utils.flops_counter import FlopsCounter

    config = AutoConfig.from_pretrained(tiny_model)
    lengths, seconds = [40, 60], 2.0
    wanted = 3 * flops.text_forward(config.thinker_config.text_config, lengths) / seconds / 1e12
    for known in (config, config.thinker_config):
        achieved, _ = FlopsCounter(known).estimate_flops(lengths, seconds, images_seqlens=None)
        assert achieved == pytest.approx(wanted)
        assert achieved > 0
