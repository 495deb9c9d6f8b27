"""The model in training answers prompts as the policy does token by token, and the training does not notice."""

import pytest
import torch
from omni_cases import encoder, messages, sample, sharpened
from ranks import run_ranks

from verl_ext.actor.answers import batches
from verl_ext.models.greedy import Prompt, batched

MAX_TOKENS = 7
KINDS = ("separate", "text", "audio", "interleaved", "video")  # of two ranks, the first has three of them


def test_a_batch_is_as_large_as_its_limit_allows():
    prompts = [Prompt([1] * length) for length in (3, 5, 9, 2)]
    sizes = [[len(prompt.ids) for prompt in batch] for batch in batches(iter(prompts), 1, 12)]
    assert sizes == [[3, 5], [9], [2]]  # 2 rows of 5 + 1 tokens are 12
    assert [len(batch) for batch in batches(iter(prompts), 1, 1)] == [1, 1, 1, 1]
    assert [*batches(iter([]), 1, 12)] == []
    mixed = [Prompt([1]), Prompt([1], audio_in_video=True), Prompt([1], audio_in_video=True)]
    assert [len(batch) for batch in batches(iter(mixed), 1, 12)] == [1, 2]


@pytest.mark.seam
def test_prompts_of_a_batch_are_padded_on_the_left():
    media = {"video_grid_thw": torch.tensor([[1, 2, 2]])}
    found = batched([Prompt([5, 6, 7], media), Prompt([8])], padding=9)
    assert found["input_ids"].tolist() == [[5, 6, 7], [9, 9, 8]]
    assert found["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
    assert found["video_grid_thw"].tolist() == [[1, 2, 2]]


@pytest.fixture(scope="module")
def prompts(processor, rows):
    found = []
    for place, kind in enumerate(KINDS):
        chat = [{"role": "user", "content": "What does the person feel?"}]
        if kind != "text":
            chat = messages(rows[place], audio_in_video=kind == "interleaved")
        if kind in ("audio", "video"):
            content = [part for part in chat[0]["content"] if part["type"] in (kind, "text")]
            chat = [{"role": "user", "content": content}]
        encoded = encoder(processor, audio_in_video=kind == "interleaved")(chat)
        found.append(Prompt(encoded.prompt_ids, encoded.inputs, kind == "interleaved"))
    return found


@torch.no_grad()
def token_by_token(policy, processor, prompt, banned):
    """Greedy, a whole forward for each token: no cache, no padding, positions of our own."""
    from verl_ext.models.rope import position_ids

    ids = list(prompt.ids)
    for _ in range(MAX_TOKENS):
        given = torch.tensor(ids)
        positions = position_ids(processor.rope, given, prompt.inputs)
        logits = policy(input_ids=given[None], position_ids=positions[:, None], **prompt.inputs).logits[0, -1]
        logits[banned] = -torch.inf
        ids.append(int(logits.argmax()))
    return ids[len(prompt.ids) :]


@pytest.fixture(scope="module")
def case(policy, processor, prompts, rows):
    """What the ranks are asked, and what they must answer."""
    from verl_ext.models.model import Qwen2_5OmniThinkerPolicy

    sharp = Qwen2_5OmniThinkerPolicy._from_config(policy.config, attn_implementation="sdpa").eval()
    sharp.load_state_dict(sharpened(policy.state_dict()))
    free = [token_by_token(sharp, processor, prompt, []) for prompt in prompts]
    banned = [free[0][0]]
    answers = [token_by_token(sharp, processor, prompt, banned) for prompt in prompts]
    end = answers[0][3]  # one answer ends early, at least
    cut = [ids[: ids.index(end) + 1] if end in ids else ids for ids in answers]
    longest = max(len(prompt.ids) for prompt in prompts) + MAX_TOKENS
    return {
        "prompts": [vars(prompt) for prompt in prompts],
        "samples": [sample(processor, "separate", rows[seed], seed) for seed in range(4)],
        "ends": [end],
        "banned": banned,
        "max_tokens": MAX_TOKENS,
        "tokens_at_once": 2 * longest,
        "expected": cut,
    }


@pytest.mark.seam
@pytest.mark.parametrize("ranks", [1, 2])
def test_answers_are_the_policys_and_the_training_is_the_same(ranks, case, tiny_model, tmp_path):
    torch.save(case, tmp_path / "case.pt")
    run_ranks("answers_rank.py", ranks, (tiny_model, tmp_path / "case.pt", tmp_path))
    results = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=False) for rank in range(ranks)]
    lengths = {len(ids) for ids in case["expected"]}
    assert len({tuple(ids) for ids in case["expected"]}) > 3
    assert len(lengths) > 1
    for rank, result in enumerate(results):
        assert result["answers"] == case["expected"][rank::ranks]
        assert result["changed"] == []
        assert result["losses"]["with answers"] == result["losses"]["without"]
        assert len({loss for loss, *_ in result["losses"]["without"]}) == 3
