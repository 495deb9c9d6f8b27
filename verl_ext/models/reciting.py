"""Random weights made to recite texts: a policy whose samples are well formed and end, without a step of training.

The first block gets a head that looks one and two tokens back, so that the last hidden state depends on the last three
tokens. The output layer is then fitted to name the tokens that follow these three in the texts. Where texts continue
differently after the same three tokens, samples do so, too. All other weights stay random. Such a policy depends on
positions and masks: where the tokens before a token are not seen, or not where they are, its log-prob is far off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

LOOK_BACK = 2
"""Tokens before the last one that the last hidden state depends on."""
_PAIRS = 12
"""Pairs of dimensions, those that turn fastest, by which this head tells places apart."""
_SHARPNESS = 9.0
_LOGIT = 20.0
"""Of a token that follows. The rest of a vocabulary of 152,000 tokens has ln 152,000 ≈ 12 together."""
_RIDGE = 1e-3


def teach(state: dict[str, torch.Tensor], config: Any, texts: Sequence[Sequence[int]], seed: int) -> None:
    """Change the weights of `state` (a Thinker's, fp32) in place.

    Args:
        state: tensors by name, without the prefix of a full Omni.
        config: of the text model.
        texts: token ids.
        seed: of the directions in which the head that looks back writes.
    """
    state["model.embed_tokens.weight"] /= state["model.embed_tokens.weight"].std()
    _shrink_blocks(state, config)
    _look_back(state, config, torch.Generator().manual_seed(seed))
    _fit_head(state, config, texts)


def _shrink_blocks(state: dict[str, torch.Tensor], config: Any) -> None:
    """As in GPT-2: what the blocks add must not outgrow the embeddings, however many there are."""
    for name, tensor in state.items():
        if name.startswith("model.layers.") and name.endswith(("o_proj.weight", "down_proj.weight")):
            tensor /= config.num_hidden_layers**0.5


def _look_back(state: dict[str, torch.Tensor], config: Any, generator: torch.Generator) -> None:
    """Query and key of the first head are constants: after RoPE, their product is largest at a distance of 1.5."""
    width = config.hidden_size
    size = width // config.num_attention_heads
    attention = "model.layers.0.self_attn."
    turns = config.rope_parameters["rope_theta"] ** (-2 * torch.arange(_PAIRS) / size)
    first, second = torch.arange(_PAIRS), torch.arange(_PAIRS) + size // 2  # the pairs that RoPE turns together
    distance = (1 + LOOK_BACK) / 2
    query, key = torch.zeros(size), torch.zeros(size)
    key[first] = _SHARPNESS
    query[first] = _SHARPNESS * torch.cos(distance * turns)
    query[second] = -_SHARPNESS * torch.sin(distance * turns)
    for name, bias in (("q", query), ("k", key)):
        state[f"{attention}{name}_proj.weight"][:size] = 0
        state[f"{attention}{name}_proj.bias"][:size] = bias
    value = torch.empty(size, width).normal_(0, size**-0.5, generator=generator)
    state[f"{attention}v_proj.weight"][:size] = value
    written = torch.empty(width, size).normal_(0, width**-0.5, generator=generator)
    state[f"{attention}o_proj.weight"][:, :size] = written


def _fit_head(state: dict[str, torch.Tensor], config: Any, texts: Sequence[Sequence[int]]) -> None:
    """Least squares: each triple of tokens gives all its successors the same high logit, and the others none."""
    contexts: dict[tuple[int, ...], list[torch.Tensor]] = {}
    successors: dict[tuple[int, ...], set[int]] = {}
    for text, hidden in zip(texts, _hidden(state, config, texts), strict=True):
        for place in range(LOOK_BACK, len(text) - 1):
            context = tuple(text[place - LOOK_BACK : place + 1])
            contexts.setdefault(context, []).append(hidden[place])
            successors.setdefault(context, set()).add(text[place + 1])
    means = torch.stack([torch.stack(seen).mean(0) for seen in contexts.values()])  # (C, width)
    tokens = sorted(set().union(*successors.values()))
    wanted = torch.zeros(len(means), len(tokens))
    column = {token: number for number, token in enumerate(tokens)}
    for row, following in enumerate(successors.values()):
        wanted[row, [column[token] for token in following]] = _LOGIT
    gram = means @ means.T
    gram += _RIDGE * gram.diagonal().mean() * torch.eye(len(gram))
    state["lm_head.weight"][tokens] = (means.T @ torch.linalg.solve(gram, wanted)).T


@torch.no_grad()
def _hidden(state: Mapping[str, torch.Tensor], config: Any, texts: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """The last hidden states ``(tokens, width)`` of each text."""
    from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniThinkerTextModel

    with torch.device("meta"):
        model = Qwen2_5OmniThinkerTextModel(config)
    prefix = "model."
    weights = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    # The table of RoPE's turns is no weight: the module that makes it is built once more, with memory.
    model.rotary_emb = type(model.rotary_emb)(config)
    model.load_state_dict(weights, assign=True)
    model.eval()
    return [model(input_ids=torch.tensor([list(text)]), use_cache=False).last_hidden_state[0] for text in texts]
