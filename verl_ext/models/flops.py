"""Floating-point operations of a Qwen2.5-Omni Thinker, from its config and lengths; verl's MFU meter is told of them.

A multiplication and an addition count as two. Of causal attention the half that is needed is counted, as verl does. A
backward pass costs twice a forward pass. Norms, activations, softmax and the lookup of embeddings are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def text_forward(config: Any, lengths: Iterable[int], head_positions: int | None = None) -> float:
    """Of the text model on sequences.

    Args:
        config: `thinker_config.text_config`.
        lengths: tokens of each sequence.
        head_positions: positions for which logits are made; None: all.
    """
    lengths = list(lengths)
    return _text(config, sum(lengths), sum(length**2 / 2 for length in lengths), head_positions)


def shared_prompt_forward(
    config: Any, prompt: int, continuations: Iterable[int], head_positions: int | None = None
) -> float:
    """Of the text model on one row of :mod:`verl_ext.actor.shared_prompt`: every continuation sees prompt and itself.

    Args:
        config: `thinker_config.text_config`.
        prompt: tokens of the prompt.
        continuations: tokens of each response and each branch.
        head_positions: positions for which logits are made; None: all.
    """
    continuations = list(continuations)
    pairs = prompt**2 / 2 + sum(tokens * prompt + tokens**2 / 2 for tokens in continuations)
    return _text(config, prompt + sum(continuations), pairs, head_positions)


def _text(config: Any, tokens: int, pairs: float, head_positions: int | None) -> float:
    """`pairs`: of a query and a key that it needs."""
    width = config.hidden_size
    head_dim = getattr(config, "head_dim", None) or width // config.num_attention_heads
    queries, keys = config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim
    weights = width * (2 * queries + 2 * keys) + 3 * width * config.intermediate_size
    head = 2 * (tokens if head_positions is None else head_positions) * width * config.vocab_size
    return float(config.num_hidden_layers * (2 * tokens * weights + 4 * pairs * queries) + head)


def vision_forward(config: Any, grid: tuple[int, int, int]) -> float:
    """Of the vision tower on one video.

    Args:
        config: `thinker_config.vision_config`.
        grid: patches in time, rows and columns (`token_count.video_grid`).
    """
    times, rows, columns = grid
    patches, width = times * rows * columns, config.hidden_size
    embed = config.in_channels * config.temporal_patch_size * config.patch_size**2 * width
    weights = 4 * width**2 + 3 * width * config.intermediate_size
    merged = width * config.spatial_merge_size**2
    merger = patches // config.spatial_merge_size**2 * (merged**2 + merged * config.out_hidden_size)
    full = len(config.fullatt_block_indexes)
    # Attention stays within a pair of frames; in most blocks, within its windows.
    side = config.window_size // config.patch_size
    windows = [
        min(side, rows - row) * min(side, columns - column)
        for row in range(0, rows, side)
        for column in range(0, columns, side)
    ]
    within_windows = 4 * times * sum(size**2 for size in windows) * width
    within_frames = 4 * times * (rows * columns) ** 2 * width
    return float(
        2 * patches * (embed + config.depth * weights)
        + 2 * merger
        + (config.depth - full) * within_windows
        + full * within_frames
    )


def audio_forward(config: Any, mel_frames: int) -> float:
    """Of the audio tower on one sound.

    Args:
        config: `thinker_config.audio_config`.
        mel_frames: of its spectrogram, 100 a second.
    """
    width, positions = config.d_model, (mel_frames - 1) // 2 + 1
    convolutions = 3 * config.num_mel_bins * width * mel_frames + 3 * width**2 * positions
    weights = 4 * width**2 + 2 * width * config.encoder_ffn_dim
    # Attention stays within chunks of 2 · n_window frames, n_window positions each.
    chunks, rest = divmod(positions, config.n_window)
    attention = 4 * width * (chunks * config.n_window**2 + rest**2)
    projection = width * config.output_dim * (positions // 2)
    return float(2 * (convolutions + projection) + config.encoder_layers * (2 * positions * weights + attention))


def achieved_tflops(config: Any, tokens_sum: int, batch_seqlens: Sequence[int], delta_time: float) -> float:
    """What verl's `FlopsCounter` asks of a model type: TFLOP/s of forward and backward passes.

    verl hands over the lengths of prompts with their responses and nothing of the media: the text model alone is
    counted, so that the MFU shown is a lower bound.

    Args:
        config: of the full Omni model or of the Thinker.
        tokens_sum: not used; verl's interface.
        batch_seqlens: tokens of every sequence.
        delta_time: seconds.
    """
    thinker = getattr(config, "thinker_config", config)
    return 3 * text_forward(thinker.text_config, batch_seqlens) / delta_time / 1e12


def register() -> None:
    """Tell verl's MFU meter, which knows model types by name."""
    from verl.utils.flops_counter import ESTIMATE_FUNC

    ESTIMATE_FUNC["qwen2_5_omni"] = ESTIMATE_FUNC["qwen2_5_omni_thinker"] = achieved_tflops
