"""A small random Qwen2.5-Omni Thinker and prompts with media for it, for cores.py. torch and transformers only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration

from verl_ext.actor.shared_prompt import Sample
from verl_ext.models.rope import OmniRope, position_ids

VOCABULARY = 2048
AUDIO, IMAGE, VIDEO, AUDIO_BOS, AUDIO_EOS, VISION_BOS, VISION_EOS, USER = range(VOCABULARY - 8, VOCABULARY)
POSITIONS_A_SECOND, SECONDS_A_CHUNK = 25, 2
MEL_FRAMES = 300  # 3 s of sound
SOUND_TOKENS = 75
GRID = (4, 4, 8)  # patches: 4 pairs of frames, one per second


def thinker_config(small: bool) -> Qwen2_5OmniThinkerConfig:
    """Text model, vision tower and audio tower, all small."""
    hidden, layers = (128, 3) if small else (512, 8)
    config = Qwen2_5OmniThinkerConfig(
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": hidden,
            "intermediate_size": 2 * hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": hidden // 32,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 1e6},
        },
        audio_config={
            "d_model": 64,
            "encoder_layers": 2,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 128,
            "output_dim": hidden,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 4,
            "out_hidden_size": hidden,
            "fullatt_block_indexes": [1],
        },
        audio_token_index=AUDIO,
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        audio_start_token_id=AUDIO_BOS,
        audio_end_token_id=AUDIO_EOS,
        vision_start_token_id=VISION_BOS,
        vision_end_token_id=VISION_EOS,
        user_token_id=USER,
        position_id_per_seconds=POSITIONS_A_SECOND,
        seconds_per_chunk=SECONDS_A_CHUNK,
        pad_token_id=0,
    )
    config._attn_implementation = "sdpa"
    return config


def make_thinker(small: bool) -> Any:
    """fp32 on the CPU. The weights are large enough that a token depends on those before it and on their positions."""
    config = thinker_config(small)
    model = Qwen2_5OmniThinkerForConditionalGeneration(config)
    draw = torch.Generator().manual_seed(0)
    width = config.text_config.hidden_size
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.dim() > 1:
                large = 2.0 if "lm_head" in name or "self_attn" in name else 1.0
                parameter.normal_(0, large * width**-0.5, generator=draw)
            else:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    return model


@dataclass(frozen=True)
class Prompt:
    """Token ids ``(length,)``; the media tensors that the model takes; the arguments of `get_rope_index`."""

    ids: torch.Tensor
    media: dict[str, torch.Tensor]
    rope: dict[str, torch.Tensor]


class Prompts:
    """Four responses: to text alone, to sound beside pictures (two to one prompt), to sound in the video."""

    vocabulary = VOCABULARY

    def __init__(self, small: bool):
        self.config = thinker_config(small)
        self.rope = OmniRope(self.config)
        self.draw = torch.Generator().manual_seed(1)
        self.pictures = GRID[0] * GRID[1] * GRID[2] // 4
        self.kinds = [self._prompt(kind, words) for kind, words in (("text", 30), ("apart", 9), ("inside", 14))]
        order = [self.kinds[0], self.kinds[1], self.kinds[2], self.kinds[1]]
        self.rows = order
        self.lengths = [len(prompt.ids) for prompt in order]
        self.responses = [self._words(length) for length in (23, 31, 12, 7)]
        self.branches = [self._words(length) for length in (9, 6, 11, 8)]
        self.samples = []
        for prompt, response, branch in zip(order, self.responses, self.branches, strict=True):
            ids = torch.cat([prompt.ids, response])
            positions = self.positions(prompt, ids)
            self.samples.append(Sample(ids, positions, len(prompt.ids), branch, prompt.media))

    def _words(self, count: int) -> torch.Tensor:
        return torch.randint(1, AUDIO, (count,), generator=self.draw)

    def _prompt(self, kind: str, words: int) -> Prompt:
        def tokens(*ids: int) -> torch.Tensor:
            return torch.tensor(ids)

        before, after = self._words(words), self._words(5)
        if kind == "text":
            return Prompt(torch.cat([before, after]), {}, {})
        a_second = self.pictures // GRID[0]
        first_sound = POSITIONS_A_SECOND * SECONDS_A_CHUNK
        if kind == "apart":
            media = [VISION_BOS, *[VIDEO] * self.pictures, VISION_EOS, AUDIO_BOS, *[AUDIO] * SOUND_TOKENS, AUDIO_EOS]
        else:  # in chunks of two seconds: the pictures, then the sound
            chunks = [VIDEO] * 2 * a_second + [AUDIO] * first_sound
            chunks += [VIDEO] * 2 * a_second + [AUDIO] * (SOUND_TOKENS - first_sound)
            media = [VISION_BOS, AUDIO_BOS, *chunks, AUDIO_EOS, VISION_EOS]
        grid, second = torch.tensor([GRID]), torch.ones(1)
        tensors = {
            "pixel_values_videos": torch.randn(GRID[0] * GRID[1] * GRID[2], 3 * 2 * 14**2, generator=self.draw),
            "video_grid_thw": grid,
            "input_features": torch.randn(1, 128, MEL_FRAMES, generator=self.draw),
            "feature_attention_mask": torch.ones(1, MEL_FRAMES, dtype=torch.long),
            "video_second_per_grid": second,
        }
        rope = {
            "video_grid_thw": grid,
            "audio_seqlens": torch.tensor([MEL_FRAMES]),
            "second_per_grids": second,
        }
        return Prompt(torch.cat([before, tokens(*media), after]), tensors, rope)

    def positions(self, prompt: Prompt, ids: torch.Tensor) -> torch.Tensor:
        """``(4, length)``, as the datasets make them."""
        return position_ids(self.rope, ids, prompt.media)

    def batch(self, continuations: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Model inputs of prompts + continuations, padded on the right, the media one after the other."""
        ids = [torch.cat([prompt.ids, tokens]) for prompt, tokens in zip(self.rows, continuations, strict=True)]
        longest = max(map(len, ids))
        positions = torch.zeros(4, len(ids), longest, dtype=torch.long)
        for row, (prompt, tokens) in enumerate(zip(self.rows, ids, strict=True)):
            positions[:, row, : len(tokens)] = self.positions(prompt, tokens)
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        mask = torch.arange(longest) < torch.tensor([[len(tokens)] for tokens in ids])
        names = next(prompt.media for prompt in self.rows if prompt.media)
        media = {name: torch.cat([prompt.media[name] for prompt in self.rows if prompt.media]) for name in names}
        return {"input_ids": padded, "attention_mask": mask.long(), "position_ids": positions, **media}


def positions_by_hand(prompt: Prompt) -> torch.Tensor:
    """M-RoPE's time, height and width ``(3, length)``, token by token.

    Text counts up in all three. A picture's token has its time in steps of 1/25 s, its row and its column, counted from
    the first position after the text; a sound's token counts up, 25 per second. What follows starts after the largest
    position of the last run of equal tokens. In a video with sound, both start at the same position, and so do their
    two opening tokens and their two closing tokens.
    """
    ids = prompt.ids.tolist()
    rows, columns = GRID[1] // 2, GRID[2] // 2
    found: list[tuple[int, int, int]] = []
    start = seen_pictures = seen_sounds = run = after = 0
    for place, token in enumerate(ids):
        if place and token != ids[place - 1]:
            after, run = 1 + max(max(entry) for entry in found[run:]), place
        elif place:
            after = found[-1][0] + 1
        if token == VIDEO:
            time, rest = divmod(seen_pictures, rows * columns)
            row, column = divmod(rest, columns)
            found.append((start + time * POSITIONS_A_SECOND, start + row, start + column))
            seen_pictures += 1
        elif token == AUDIO:
            found.append((start + seen_sounds,) * 3)
            seen_sounds += 1
        else:
            pair = place > 0 and (ids[place - 1], token) in ((VISION_BOS, AUDIO_BOS), (AUDIO_EOS, VISION_EOS))
            value = found[-1][0] if pair else after
            found.append((value,) * 3)
            start, seen_pictures, seen_sounds = value + 1, 0, 0
    return torch.tensor(found).T
