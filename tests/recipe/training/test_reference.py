"""The reference for slow–fast confidence, checked by itself: on a tiny Thinker with real clips, and by hand."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from calibration_cases import build
from omni_cases import actor_log_probs, sharpened
from reference import FLOOR, Word, align, calibrate, category_tokens, confidences, gap_rewards, log_probs, margin

pytestmark = pytest.mark.seam

REWARDS = ("calib_pos", "calib_neg", "calib_pos_word", "calib_neg_word")
MARGINS = ("margin_slow", "margin_fast")


@pytest.fixture(scope="module")
def processor(tiny_model):
    from transformers import AutoConfig, AutoProcessor

    from verl_ext.models.processor import bind

    return bind(AutoProcessor.from_pretrained(tiny_model), AutoConfig.from_pretrained(tiny_model))


@pytest.fixture(scope="module")
def policy(tiny_model):
    """Sharpened: freshly drawn weights give nearly the same distribution everywhere, which would hide mistakes."""
    from verl_ext.models.model import Qwen2_5OmniThinkerPolicy

    policy = Qwen2_5OmniThinkerPolicy.from_pretrained(tiny_model, dtype=torch.float32, attn_implementation="sdpa")
    policy.load_state_dict(sharpened(policy.state_dict()))
    return policy.eval()


@pytest.fixture(scope="module")
def cases(processor, micro_corpus):
    from verl_ext.data.dataset import load_shard

    rows = load_shard(micro_corpus / "shards" / "rl.parquet").to_list()
    return {case.name: case for case in build(processor, rows)}


@pytest.fixture(scope="module")
def results(policy, processor, builtin, cases):
    return {
        name: calibrate(policy, processor, builtin, case.encoded, case.response, case.labels)
        for name, case in cases.items()
    }


def words(results, name):
    return [word.text for word in results[name].words]


def test_cases_are_of_many_kinds(cases):
    assert len(cases) >= 16
    # Padding is only tested where lengths differ; which two may agree depends on the words the tokenizer has learnt.
    lengths = {(len(case.encoded.prompt_ids), len(case.response)) for case in cases.values()}
    assert len(lengths) >= len(cases) - 2
    assert {bool(case.encoded.videos) for case in cases.values()} == {True, False}
    assert cases["plain"].encoded is cases["empty thought"].encoded


def test_probabilities_of_a_wheels_categories_sum_to_at_most_one(results):
    sums = [
        sum(math.exp(value) for value in categories.values() if not math.isnan(value))
        for result in results.values()
        for word in result.words
        for mode in (word.slow, word.fast)
        for categories in mode.values()
    ]
    assert len(sums) > 100
    assert min(sums) > 0
    assert max(sums) <= 1 + 1e-6


def test_an_empty_thought_has_no_gap(results, cases):
    result, case = results["empty thought"], cases["empty thought"]
    assert result.fast_ids == case.response
    for reward in REWARDS:
        assert getattr(result, reward) == pytest.approx(0, abs=1e-6)
    assert result.margin_slow == pytest.approx(result.margin_fast, abs=1e-6)


def test_a_thought_makes_a_gap(results):
    for name in ("plain", "capitals, repeated words", "two answers", "non-English thought"):
        result = results[name]
        # ten times what fp32 leaves where there is no gap; how far chance goes beyond depends on the drawn weights
        assert all(abs(getattr(result, reward)) > 1e-5 for reward in REWARDS), name
        assert abs(result.margin_slow - result.margin_fast) > 1e-5


def test_the_answers_words_are_found(results):
    assert words(results, "plain") == ["happy", "sad", "worried"]
    assert words(results, "capitals, repeated words") == ["Happy", "Sad", "Surprised"]
    assert words(results, "two answers") == ["angry", "sad"]
    assert words(results, "list with quotes") == ["furious", "anxious", "frustrated", "scared"]
    assert words(results, "words no wheel knows") == ["table", "sad", "wütend", "恐惧", "17", "joyful"]


@pytest.mark.parametrize("name", ["empty answer", "no answer", "cut off"])
def test_without_words_nothing_is_defined(name, results):
    assert results[name].words == []
    assert all(math.isnan(getattr(results[name], key)) for key in REWARDS + MARGINS)


def test_words_no_wheel_knows_earn_nothing_and_carry_no_margin(results):
    result = results["only words no wheel knows"]
    assert words(results, "only words no wheel knows") == ["table", "blorp"]
    assert all(math.isnan(getattr(result, key)) for key in REWARDS + MARGINS)


def test_labels_no_wheel_knows_leave_everything_undefined(results):
    result = results["labels no wheel knows"]
    assert len(result.words) == 2
    assert all(math.isnan(getattr(result, key)) for key in REWARDS + MARGINS)


def test_a_word_is_read_at_the_token_with_its_first_character(processor, cases, results):
    tokenizer = processor.tokenizer

    def spelled(ids):
        """One sign a byte, as the vocabulary is written: a token may hold a piece of a character."""
        return "".join(tokenizer.convert_ids_to_tokens(ids))

    for name, case in cases.items():
        for word in results[name].words:
            expected = spelled(tokenizer.encode(word.text))
            for ids, at in ((case.response, word.slow_at), (results[name].fast_ids, word.fast_at)):
                assert spelled(ids[at:]).removeprefix("Ġ").startswith(expected), (name, word.text)


def test_word_confidence_is_the_log_prob_of_the_sampled_token(policy, processor, cases, results):
    for name, case in cases.items():
        for ids, mode in ((case.response, "slow"), (results[name].fast_ids, "fast")):
            if results[name].words:
                sampled = actor_log_probs(policy, processor, case.encoded, ids)
                for word in results[name].words:
                    expected = sampled[getattr(word, f"{mode}_at")].item()
                    assert getattr(word, f"{mode}_word") == pytest.approx(expected, abs=1e-5), (name, word.text)


def test_the_fast_form_is_the_same_answer_behind_an_emptied_thought(processor, cases, results):
    decode = processor.tokenizer.decode
    for name, case in cases.items():
        if results[name].words:
            answer = "<answer>" + decode(case.response).rsplit("<answer>", 1)[1]
            assert decode(results[name].fast_ids) == "<think></think>" + answer, name


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("plain", "< think > </ think >< answer > ha ppy , Ġsad"),
        ("plain, tag in bytes", "< think > </ think > < a n s w e r > ha ppy , Ġsad"),
        ("list with quotes", "< think > </ think >< answer > Ċ"),
        ("capitals, repeated words, in bytes", "< think > </ think > < a n s w e r > H a p p y , Ġ S a d"),
    ],
)
def test_the_answers_tokens_are_kept_as_sampled(name, start, processor, cases, results):
    """Where `><` or ` <` holds the tag's first character, only that one is encoded anew, with the emptied thought."""
    start, fast_ids = start.split(), results[name].fast_ids
    assert processor.tokenizer.convert_ids_to_tokens(fast_ids)[: len(start)] == start
    rest = len(fast_ids) - len(start)
    assert fast_ids[-rest:] == cases[name].response[-rest:]


def test_words_without_a_token_of_their_own_do_not_count(processor):
    tokenizer = copy.deepcopy(processor.tokenizer)
    tokenizer.add_tokens(["><answer>so", "calm,sad"])
    ids = tokenizer.encode("<think>x</think><answer>so, calm,sad, happy</answer>", add_special_tokens=False)
    text, fast_ids, starts = align(tokenizer, ids)
    assert [text[start:end] for start, end, *_ in starts] == ["calm", "happy"]
    assert tokenizer.decode(fast_ids) == "<think></think><answer>so, calm,sad, happy</answer>"
    assert all(ids[slow_at] == fast_ids[fast_at] for *_, slow_at, fast_at in starts)


def test_category_tokens_are_first_tokens_whose_shares_sum_to_one(processor, builtin):
    tokens = category_tokens(processor.tokenizer, builtin)
    for wheel in builtin.ids:
        own = list(tokens[wheel].values())
        assert len(own) == len(builtin.all_categories(wheel))
        for token in set().union(*own):
            assert sum(shares.get(token, 0) for shares in own) == pytest.approx(1)
    blank = processor.tokenizer.convert_tokens_to_ids("Ġ")
    assert not any(blank in own for categories in tokens.values() for own in categories.values())
    surprised = processor.tokenizer.encode(" surprised")[0]
    assert surprised in tokens["w1"]["surprised"]


def test_a_category_is_the_log_of_its_tokens_summed_probability():
    log_p = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.0]).log()
    tokens = {"two": {0: 1.0, 2: 0.5}, "one": {3: 1.0}, "none": {}, "impossible": {4: 1.0}}
    wheels = SimpleNamespace(category=lambda word, wheel: {"glad": "two", "new": "none"}.get(word))

    def of(word, sampled):
        return confidences(log_p, {"w1": tokens}, wheels, word, sampled)["w1"]

    found = of("table", 2)
    assert found["two"] == pytest.approx(math.log(0.1 + 0.15))
    assert found["one"] == pytest.approx(log_p[3].item())
    assert math.isnan(found["none"])
    assert found["impossible"] == FLOOR
    assert of("glad", 2)["two"] == pytest.approx(math.log(0.1 + 0.3))  # in full where it is the word's own
    assert of("glad", 1)["two"] == pytest.approx(math.log(0.1 + 0.15 + 0.2))
    assert of("new", 3)["none"] == pytest.approx(math.log(0.4))


def category_gap(word, wheel, category):
    return word.slow[wheel][category] - word.fast[wheel][category]


def word_gap(word, wheel, category):
    return word.slow_word - word.fast_word


def test_rewards_and_margin_by_hand(builtin):
    wheels = copy.copy(builtin)
    wheels.ids = ("w1",)
    slow = {"w1": {"happy": -1, "sad": -2, "mad": -3, "scared": -4, "disgusted": -5, "surprised": -6}}
    fast = {"w1": {"happy": -1.5, "sad": -1, "mad": -3, "scared": math.nan, "disgusted": -1, "surprised": -2}}
    answer = [
        Word(text, 0, 0, slow, fast, slow_word=-1, fast_word=-3)
        for text in ("joyful", "sad", "happy", "table", "furious", "terrified")
    ]
    labels = ["happy", "terrified"]
    # joyful, happy: 0.5 each; terrified (scared): undefined | sad: -1, furious (mad): 0 | table: on no wheel.
    assert gap_rewards(wheels, labels, answer, category_gap) == pytest.approx((0.5, 0.5))
    # Every word's own gap is 2.
    assert gap_rewards(wheels, labels, answer, word_gap) == pytest.approx((2, -2))
    # The true ones are happy and scared, the three likeliest others sad, mad and disgusted.
    assert margin(wheels, labels, [("table", fast), ("sad", slow), ("happy", fast)]) == pytest.approx(
        (-1 - 4) / 2 - (-2 - 3 - 5) / 3
    )
    # scared is undefined, and the three likeliest others are sad, disgusted and surprised.
    assert margin(wheels, labels, [("happy", fast)]) == pytest.approx(-1.5 - (-1 - 1 - 2) / 3)


def test_the_mean_is_over_wheels_that_know_both_truth_and_word(builtin):
    def conf(value_of):
        return {wheel: dict.fromkeys(builtin.all_categories(wheel), value_of(wheel)) for wheel in builtin.ids}

    def answer(text):
        return [Word(text, 0, 0, conf(lambda wheel: float(wheel[1])), conf(lambda wheel: 0.0), 0.0, 0.0)]

    # Δ on wheel w3 is 3, and so on. The wheels w3 and w5 know "revolting" in no category, only w4 knows "queered".
    assert gap_rewards(builtin, ["revolting"], answer("revolting"), category_gap)[0] == pytest.approx((1 + 2 + 4) / 3)
    assert gap_rewards(builtin, ["revolting"], answer("happy"), category_gap)[1] == pytest.approx(-(1 + 2 + 4) / 3)
    assert gap_rewards(builtin, ["happy"], answer("queered"), category_gap)[1] == pytest.approx(-4)
    assert gap_rewards(builtin, ["happy"], answer("happy"), category_gap)[0] == pytest.approx(3)
    found = conf(lambda wheel: 0.0 if wheel in ("w1", "w2", "w4") else math.inf)
    assert margin(builtin, ["revolting"], [("happy", found)]) == 0


def test_rows_are_distributions_over_the_whole_vocabulary(policy, processor, cases):
    case = cases["non-English thought"]
    rows = log_probs(policy, processor, case.encoded, case.response)
    assert rows.shape == (len(case.response), policy.thinker.lm_head.out_features)
    assert rows.exp().sum(-1) == pytest.approx(torch.ones(len(rows)), abs=1e-5)
