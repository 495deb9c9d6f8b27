"""The reward manager on responses as they come: ended by a special token, padded, begun for the policy."""

import asyncio

import pytest
import torch
from omegaconf import OmegaConf

from recipe.mer_r1.method.answer import FAST_PREFIX

pytestmark = pytest.mark.seam
REWARD = {"f1": 1.0, "format": 1.0}


@pytest.fixture
def scored(tiny):
    """Score texts, of which the last counts, with the real tokenizer: reward and scores."""
    from verl import DataProto

    from recipe.mer_r1.training.reward_manager import EmotionRewardManager

    def score(*texts, labels, prefix="", reward=REWARD, behind="", form="think_answer", folder=None):
        config = {"mer_r1": {"wheels": {"folder": folder}, "form": form, "reward": reward, "min_thought_tokens": 0}}
        manager = EmotionRewardManager(OmegaConf.create(config), tiny, None)
        rows = [[*tiny.encode(text, add_special_tokens=False), tiny.eos_token_id] for text in texts]
        behind = tiny.encode(behind, add_special_tokens=False)
        width = max(map(len, rows)) + len(behind) + 2
        filled = [row + behind + [tiny.pad_token_id] * (width - len(row) - len(behind)) for row in rows]
        prompt = torch.ones(len(rows), 4, dtype=torch.long)
        real = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        data = DataProto.from_dict(
            {"responses": torch.tensor(filled), "attention_mask": torch.cat([prompt, real], dim=1)},
            non_tensors={
                "reward_model": [{"ground_truth": labels}] * len(rows),
                "response_prefix": [prefix] * len(rows),
                "extra_info": [{"name": "clip_7"}] * len(rows),
            },
        )
        found = asyncio.run(manager.run_single(data))
        return found["reward_score"], found["reward_extra_info"]

    return score


def test_scores_by_hand(scored):
    """Of the two true categories one is named on every wheel, and nothing else: recall 1/2, precision 1, F1 2/3."""
    reward, scores = scored("<think>A smile.</think><answer>happy</answer>", labels=["happy", "sad"])
    assert (scores["recall"], scores["precision"], scores["f1"]) == pytest.approx((1 / 2, 1, 2 / 3))
    assert (scores["format"], scores["num_words"], scores["wheels"]) == (1.0, 1, 5)
    assert reward == pytest.approx(2 / 3 + 1)
    _, scores = scored("<think>A smile.</think><answer>happy, sad</answer>", labels=["happy"])
    assert (scores["recall"], scores["precision"], scores["f1"]) == pytest.approx((1, 1 / 2, 2 / 3))
    assert "w3/joyful" in scores["truth"].split()
    assert {"w3/joyful", "w3/sad"} <= set(scores["predicted"].split())
    assert scores["clip"] == "clip_7"


def test_the_end_of_the_turn_and_the_padding_are_not_part_of_the_answer(scored):
    _, scores = scored("<think>A smile.</think><answer>happy</answer>", labels=["happy"])
    assert scores["format"] == 1.0
    _, scores = scored("<think>A smile.</think><answer>happy</answer>", labels=["happy"], behind="<answer>sad</answer>")
    assert (scores["format"], scores["precision"]) == (1.0, 1.0)
    # What is sampled behind the answer is part of it.
    _, scores = scored("<think>A smile.</think><answer>happy</answer>.", labels=["happy"])
    assert (scores["format"], scores["f1"]) == (0.0, 1.0)


def test_the_text_a_reply_was_made_to_begin_with_counts(scored):
    reward, scores = scored("happy</answer>", labels=["happy"], prefix=FAST_PREFIX)
    assert (scores["format"], scores["f1"], scores["num_words"], reward) == (1.0, 1.0, 1, 2.0)
    reward, scores = scored("happy</answer>", labels=["happy"])
    assert (scores["format"], scores["f1"], scores["num_words"], reward) == (0.0, 0.0, 0, 0.0)


def test_the_weights_are_the_runs(scored):
    weights = {"recall": 0.25, "precision": 2.0, "format": 0.5}
    reward, _ = scored("<answer>happy</answer>", labels=["happy", "sad"], reward=weights)
    assert reward == pytest.approx(0.25 / 2 + 2.0)
    reward, _ = scored("<think></think><answer>sad</answer>", labels=["happy"], reward=weights)
    assert reward == 0.5


def test_the_form_is_the_runs(scored):
    text = "<answer>sad</answer><think>No.</think><answer>happy</answer>"
    _, scores = scored(text, labels=["happy"], form="answer_think_answer")
    assert (scores["format"], scores["f1_first"], scores["f1"]) == (1.0, 0.0, 1.0)
    assert scored(text, labels=["happy"])[1]["format"] == 0.0


def test_the_last_sequence_of_a_trajectory_is_scored(scored):
    texts = ("<think>.</think><answer>sad</answer>", "<think>.</think><answer>happy</answer>")
    assert scored(*texts, labels=["happy"])[1]["recall"] == 1.0


def test_the_wheels_are_those_of_the_runs_folder(scored, tmp_path):
    from recipe.mer_r1.method.wheels.table import WheelError

    with pytest.raises(WheelError, match="no_wheels"):
        scored("<answer>sad</answer>", labels=["happy"], folder=str(tmp_path / "no_wheels"))
