"""What the confidence pass asks of the engine, and what it makes of the reply: by hand, word by word."""

import pytest
import torch
from omegaconf import OmegaConf
from step_cases import OWN, STEP, Actor, Store

pytestmark = pytest.mark.seam

ANSWERS = {
    "a_0_0": ("<think>The face looks happy.</think><answer>happy, sad</answer>", ["happy"]),
    "b_0_0": ("<think>So.</think>\n<answer>calm,sad</answer>", ["sad"]),
    "c_0_0": ("No tags, no words.", ["happy"]),
}
# Mass of the first category where the word stands, slow and fast.
TABLE = {
    ("a_0_0", "happy"): (-1.0, -3.0),
    ("a_0_0", "sad"): (-4.0, -3.5),
    ("b_0_0", "calm"): (-1.0, -2.0),
    ("b_0_0", "sad"): (-2.0, -2.25),
}


@pytest.fixture
def store(monkeypatch):
    return Store(monkeypatch)


@pytest.fixture
def batch(store, tiny):
    return store.add(tiny, ANSWERS)


@pytest.fixture
def confidence(tiny, builtin):
    """A pass with these settings of `mer_r1.confidence`."""
    from recipe.mer_r1.training.confidence_pass import ConfidencePass

    def make(floor=-20.0, shared_tokens="split"):
        return ConfidencePass(tiny, builtin, OmegaConf.create({"floor": floor, "shared_tokens": shared_tokens}))

    return make


def calibrated(confidence, store, tiny, batch):
    """Calibrations by key, and the batch that went to the engine and back."""
    asked = Actor(store, tiny, TABLE).compute_log_prob(confidence.request(batch))
    return confidence.collect(asked), asked


def test_a_word_is_asked_for_where_it_begins_in_the_response_and_in_the_branch(confidence, store, tiny, batch):
    confidence().request(batch)
    found = {}
    for key, row in store.rows.items():
        for mode, ids, places in (
            ("slow", row["responses"], row["set_positions"]),
            ("fast", row["branch_ids"], row["branch_set_positions"]),
        ):
            found[key, mode] = [(tiny.decode(ids[:p]), tiny.decode(ids[p])) for p in places.tolist()]
    slow, fast = "<think>The face looks happy.</think><answer>", "<think></think><answer>"
    assert found["a_0_0", "slow"] == [(slow, "happy"), (f"{slow}happy,", " sad")]
    assert found["a_0_0", "fast"] == [(fast, "happy"), (f"{fast}happy,", " sad")]
    assert found["b_0_0", "fast"] == [(fast, "calm"), (f"{fast}calm,", "sad")]
    # The engine wants a place and a branch for every response.
    assert found["c_0_0", "slow"] == found["c_0_0", "fast"] == [("", "N")]


def test_the_sets_and_their_shares_go_with_the_batch(confidence, batch):
    passed = confidence()
    asked = passed.request(batch)
    assert asked.extra_info == {
        "temperature": 1.0,
        "token_sets": passed.sets.token_ids,
        "token_shares": passed.sets.shares,
    }
    assert (asked.keys, asked.tags, asked.partition_id) == (batch.keys, batch.tags, batch.partition_id)
    assert set(asked.fields) == {"branch_ids", "set_positions", "branch_set_positions"}


def test_every_response_is_calibrated_with_its_own_words_masses_and_labels(confidence, store, tiny, batch):
    """Δ: happy +2, sad -0.5 | calm +1, sad +0.25. R⁻ rewards a negative one. Own tokens: -15 and -16, Δ = 1."""
    found, _ = calibrated(confidence(), store, tiny, batch)
    expected = {"a_0_0": [2.0, 0.5, 1.0, -1.0], "b_0_0": [0.25, -1.0, 1.0, -1.0], "c_0_0": [float("nan")] * 4}
    for key, values in expected.items():
        names = ("calib_pos", "calib_neg", "calib_pos_word", "calib_neg_word")
        signals = dict(zip(names, values, strict=True))
        assert found[key].signals == pytest.approx(signals, abs=1e-3, nan_ok=True), key


def test_columns_of_a_reply_are_the_categories(confidence, store, tiny, batch):
    passed = confidence()
    found, _ = calibrated(passed, store, tiny, batch)
    happy, sad = found["a_0_0"].words_json()
    for wheel, category in (("w1", "sad"), ("w3", "powerful"), ("w5", "scared")):
        column = passed.sets.names.index((wheel, category))
        assert happy["slow"][wheel][category] == pytest.approx(-1.0 - STEP * column, abs=1e-3)
        assert sad["fast"][wheel][category] == pytest.approx(-3.5 - STEP * column, abs=1e-3)
    assert [happy["slow_word"], sad["fast_word"]] == [OWN["slow"], OWN["fast"]]


@pytest.mark.parametrize("field", ["set_log_probs", "branch_set_log_probs"])
def test_nan_masses_stop_the_run_and_name_the_response(field, confidence, store, tiny, batch):
    passed = confidence()
    asked = Actor(store, tiny, TABLE).compute_log_prob(passed.request(batch))
    store.rows["b_0_0"][field][3] = -torch.inf  # an empty set: that is fine
    passed.collect(asked)
    store.rows["b_0_0"][field][3] = torch.nan
    with pytest.raises(FloatingPointError, match=r"response b_0_0: .*NaN"):
        passed.collect(asked)


def test_a_batch_that_verl_hands_on_does_not_ask_again(confidence, store, tiny, batch):
    """In bypass mode the reference's pass and the update get the very batch."""
    _, asked = calibrated(confidence(), store, tiny, batch)
    assert asked.extra_info == {"temperature": 1.0}


def test_the_floor_is_the_settings(confidence, store, tiny, batch):
    found, _ = calibrated(confidence(floor=-2.5), store, tiny, batch)
    happy, sad = found["a_0_0"].words_json()
    values = [value for by_wheel in happy["fast"].values() for value in by_wheel.values()]
    assert set(values) == {-2.5}
    assert max(value for by_wheel in happy["slow"].values() for value in by_wheel.values()) == pytest.approx(-1.0)
    assert (happy["slow_word"], sad["fast_word"]) == (-2.5, -2.5)


def test_the_rule_for_shared_tokens_is_the_settings(confidence):
    """How much of a token's probability the categories of a wheel get together."""
    totals = {}
    for rule in ("split", "drop", "keep"):
        sets = confidence(shared_tokens=rule).sets
        of_token = totals[rule] = {}
        for (wheel, _), ids, shares in zip(sets.names, sets.token_ids, sets.shares, strict=True):
            for token, share in zip(ids, shares, strict=True):
                of_token[wheel, token] = of_token.get((wheel, token), 0.0) + share
    assert totals["split"] == pytest.approx(dict.fromkeys(totals["split"], 1.0))
    assert max(totals["keep"].values()) >= 2
    assert set(totals["drop"].values()) == {1.0}
    assert len(totals["drop"]) < len(totals["split"]) == len(totals["keep"])


def test_a_pass_of_its_own_asks_for_masses_at_temperature_1_and_nothing_else(confidence, store, tiny, batch):
    passed, actor = confidence(), Actor(store, tiny, TABLE)
    asked = passed.request(batch)
    asked.extra_info["temperature"] = 0.7
    passed.run_alone(asked, actor)
    (extra,) = actor.asked
    wanted = {"temperature": 1.0, "calculate_entropy": False, "compute_loss": False}
    assert {name: extra[name] for name in wanted} == wanted
    assert extra["token_sets"] == passed.sets.token_ids
    assert passed.collect(asked)["a_0_0"].signals["calib_pos"] == pytest.approx(2.0, abs=1e-3)
