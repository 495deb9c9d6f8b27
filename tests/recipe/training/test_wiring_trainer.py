"""A step of the trainer over verl's own, with verl's padding rows: signals, advantages, metrics and files by value."""

import json
import math
from functools import partial
from types import SimpleNamespace

import pytest
from step_cases import Actor, Store

from recipe.mer_r1.run import launch

pytestmark = pytest.mark.seam
NAN = float("nan")

# Two prompts of three responses; the last of the second is missing, so that verl adds one to fill the mini-batch.
ANSWERS = {
    "p_0_0": ("<think>A smile.</think><answer>happy</answer>", ["happy"]),
    "p_1_0": ("<think>A smile, a tear.</think><answer>happy, sad</answer>", ["happy"]),
    "p_2_0": ("<think>A tear.</think><answer>sad</answer>", ["happy"]),
    "q_0_0": ("<think>A frown.</think><answer>sad, angry</answer>", ["sad"]),
    "q_1_0": ("<think>Plain.</think><answer>angry</answer>", ["sad"]),
}
TABLE = {
    ("p_0_0", "happy"): (-1.0, -2.0),
    ("p_1_0", "happy"): (-1.0, -1.5),
    ("p_1_0", "sad"): (-3.0, -3.25),
    ("p_2_0", "sad"): (-3.0, -2.0),
    ("q_0_0", "sad"): (-2.0, -1.75),
    ("q_0_0", "angry"): (-3.0, -2.5),
    ("q_1_0", "angry"): (-3.0, -4.0),
}
# What the reward manager said; not what it would say, so that every number can be told apart.
SIGNALS = {
    "p_0_0": {"recall": 1.0, "precision": 0.2, "f1": 0.8, "format": 1.0, "f1_first": 0.3},
    "p_1_0": {"recall": 0.7, "precision": 0.6, "f1": 0.5, "format": 0.0, "f1_first": 0.0},
    "p_2_0": {"recall": 0.1, "precision": 0.4, "f1": 0.2, "format": 1.0, "f1_first": 0.1},
    "q_0_0": {"recall": 0.3, "precision": 0.9, "f1": 0.4, "format": 1.0, "f1_first": 0.2},
    "q_1_0": {"recall": 0.5, "precision": 0.1, "f1": 0.6, "format": 1.0, "f1_first": 0.7},
}
THOUGHT_TOKENS = {"p_0_0": 20, "p_1_0": 0, "p_2_0": 4, "q_0_0": 5, "q_1_0": 9}
CONFIDENCE = {  # from TABLE: the mean Δ of right words, and less that of wrong ones
    "p_0_0": {"calib_pos": 1.0, "calib_neg": NAN},
    "p_1_0": {"calib_pos": 0.5, "calib_neg": -0.25},
    "p_2_0": {"calib_pos": NAN, "calib_neg": 1.0},
    "q_0_0": {"calib_pos": -0.25, "calib_neg": 0.5},
    "q_1_0": {"calib_pos": NAN, "calib_neg": -1.0},
}
EXPECTED = {key: {**SIGNALS[key], **CONFIDENCE[key]} for key in ANSWERS}


def normalised(name):
    """Eq. 5 by hand: (x - mean) / std inside each prompt, 0 where undefined or where nothing varies."""
    found = {}
    for prompt in "pq":
        values = {key: signals[name] for key, signals in EXPECTED.items() if key[0] == prompt}
        kept = [value for value in values.values() if not math.isnan(value)]
        mean = sum(kept) / len(kept)
        std = math.sqrt(sum((value - mean) ** 2 for value in kept) / max(1, len(kept) - 1))
        for key, value in values.items():
            found[key] = 0.0 if math.isnan(value) or not std else (value - mean) / std
    return found


WEIGHTS = {"recall": 1.0, "precision": 1.0, "calib_pos": 0.1, "calib_neg": 0.1, "format": 0.1}  # Eq. 12
TERMS = {name: {key: weight * value for key, value in normalised(name).items()} for name, weight in WEIGHTS.items()}
ADVANTAGES = {key: sum(values[key] for values in TERMS.values()) for key in ANSWERS}


def made(patch, tokenizer, folder, *overrides):
    """A trainer in mode sync, set up as far as this recipe does it, and its batch with verl's padding."""
    from verl.trainer.ppo.v1 import PPOTrainerSync

    from recipe.mer_r1.training import estimator
    from recipe.mer_r1.training.trainer import MerTrainerSync

    sizes = ("preset.prompts_per_step=2", "preset.responses_per_prompt=3", "mer_r1.max_missing_share=0.2")
    rollouts = f"trainer.rollout_data_dir={folder}"
    config = launch.compose("ppo", ["experiment=mer_r1", *sizes, rollouts, *overrides])
    estimator.register(config)
    store = Store(patch)
    of_answer = {"wheels": 5, "num_words": 2, "truth": "w1/happy", "predicted": "w1/happy w1/sad"}
    extras = {
        key: {"reward_extra_info": {**signals, **of_answer, "thought_tokens": THOUGHT_TOKENS[key]}}
        for key, signals in SIGNALS.items()
    }
    batch = store.add(tokenizer, ANSWERS, extra_fields=extras)
    patch.setattr(PPOTrainerSync, "init", lambda self: None)
    trainer = MerTrainerSync.__new__(MerTrainerSync)
    trainer.config, trainer.tokenizer, trainer.global_steps = config, tokenizer, 1
    trainer.trainer_mode, trainer.parameter_sync_step = config.trainer.v1.trainer_mode, 1
    trainer.use_critic, trainer.ref_in_actor = False, True
    trainer.actor_rollout_wg = Actor(store, tokenizer, TABLE)
    trainer.init()
    batch = trainer._balance_batch(batch, {})
    batch.reorder([3, 5, 0, 4, 2, 1])  # as several ranks share it out
    return SimpleNamespace(trainer=trainer, store=store, batch=batch, metrics={})


@pytest.fixture
def step(monkeypatch, tiny, tmp_path):
    """Make a trainer and its batch; see `made`."""
    return partial(made, monkeypatch, tiny, tmp_path)


@pytest.fixture(scope="module")
def done(tiny, tmp_path_factory):
    """A whole step of experiment=mer_r1, and the rows of its rollout file by key."""
    folder = tmp_path_factory.mktemp("rollouts")
    with pytest.MonkeyPatch.context() as patch:
        step = taken(made(patch, tiny, folder))
        step.trainer._init_dump_executor()
        step.trainer._log_rollout_data(step.batch, {}, str(folder))
        step.trainer._shutdown_dump_executor()
    assert not step.trainer._rows._rows, "kept into the next step"
    rows = map(json.loads, (folder / "1.jsonl").read_text().splitlines())
    step.rollouts = {row["uid"]: row for row in rows}
    return step


def taken(step):
    """The step's part that is this recipe's."""
    step.batch = step.trainer._compute_old_log_prob(step.batch, step.metrics)
    step.batch = step.trainer._compute_ref_log_prob(step.batch, step.metrics)
    step.batch = step.trainer._compute_advantage(step.batch, step.metrics)
    return step


def test_every_response_gets_the_advantage_of_its_own_signals(done):
    assert sum(tag.get("is_padding", False) for tag in done.batch.tags) == 1
    for key in ANSWERS:
        row = done.store.rows[key]
        assert row["advantages"].tolist() == pytest.approx([ADVANTAGES[key]] * len(row["responses"]), abs=2e-3), key
    (padding,) = set(done.batch.keys) - set(ANSWERS)
    assert done.store.rows[padding]["advantages"].tolist() == [0.0]


def test_the_rollout_file_has_signals_terms_and_words_and_no_padding(done):
    assert set(done.rollouts) == set(ANSWERS)
    for key, row in done.rollouts.items():
        for name, value in EXPECTED[key].items():
            held = row["signals"][name]
            assert (NAN if held is None else held) == pytest.approx(value, abs=1e-3, nan_ok=True), (key, name)
        assert row["terms"] == pytest.approx({name: values[key] for name, values in TERMS.items()}, abs=2e-3)
        assert row["advantage"] == pytest.approx(ADVANTAGES[key], abs=2e-3)
        assert ", ".join(word["word"] for word in row["words"]) in ANSWERS[key][0]
        assert row["tokens"] == len(done.store.rows[key]["responses"])


def test_metrics_are_means_over_the_real_responses(done):
    metrics = done.metrics
    for name in ("recall", "precision", "f1", "format"):
        assert metrics[f"reward/{name}"] == pytest.approx(sum(s[name] for s in SIGNALS.values()) / 5), name
    assert [metrics[f"reward/thought_{name}"] for name in ("empty", "short", "tokens")] == [1 / 5, 2 / 5, 38 / 5]
    assert metrics["reward/answer_unknown"] == 0.0
    assert metrics["confidence/calib_pos/mean"] == pytest.approx((1.0 + 0.5 - 0.25) / 3, abs=1e-3)
    assert metrics["confidence/calib_neg/mean"] == pytest.approx((-0.25 + 1.0 + 0.5 - 1.0) / 4, abs=1e-3)
    assert metrics["confidence/calib_pos/undefined"] == metrics["advantage/calib_pos/undefined"] == 2 / 5
    assert metrics["confidence/calib_neg/undefined"] == metrics["advantage/calib_neg/undefined"] == 1 / 5
    # There are two groups, and the padding is none; in the second format is constant, and one calib_pos is defined.
    assert metrics["advantage/recall/constant_groups"] == 0.0
    assert metrics["advantage/format/constant_groups"] == metrics["advantage/calib_pos/constant_groups"] == 1 / 2
    assert metrics["category/w1/happy/recall"] == 1.0
    assert metrics["category/w1/sad/precision"] == 0.0
    assert metrics["rollout_actor_log_prob_diff/max"] == pytest.approx(0.25)
    assert [metrics[f"reward/categories{end}"] for end in ("", "_max", "_labels")] == [2.0, 2.0, 1.0]
    assert metrics["advantage/zero_groups"] == 0.0
    assert metrics["advantage/cancelled_groups"] == 1 / 2  # two answers, of which one has more recall, less precision
    assert not any("/lag_" in name for name in metrics)  # in mode sync there is none
    assert metrics["reward/missing"] == 1


def test_a_step_without_any_format_is_warned_of_on_the_screen(step, monkeypatch, tmp_path, capsys):
    from verl.trainer.ppo.v1 import PPOTrainerSync

    def verls(self, batch, metrics, timing_raw, global_steps, epoch):
        metrics["training/global_step"] = global_steps

    monkeypatch.setattr(PPOTrainerSync, "_compute_metrics", verls)
    monkeypatch.setattr(PPOTrainerSync, "fit", lambda self, manager: None)
    trainer = step(f"run_dir={tmp_path}").trainer
    trainer.global_steps, trainer.stopped = 2, True
    lines = (json.dumps({"step": number, "data": {"reward/format": 0.0}}) + "\n" for number in (1, 2, 3))
    (tmp_path / "metrics.jsonl").write_text("".join(lines))  # the run resumes after step 2
    trainer.fit(None)
    for number in (3, 4):
        trainer._compute_metrics(None, {"reward/format": 0.0}, {}, global_steps=number, epoch=0)
    assert capsys.readouterr().out.count("WARNING: step 3: no answer of the last 3 steps has the required form") == 1


def test_the_control_shuffles_r_pos_and_r_neg_inside_each_prompt_and_keeps_their_metrics(step, done):
    """Over some steps every value is seen elsewhere; what a step draws is the same when it is taken again."""

    def advantages(number):
        made = step("mer_r1.confidence.shuffle=true")
        made.trainer.global_steps = number
        taken(made)
        for name in ("calib_pos", "calib_neg"):
            assert made.metrics[f"confidence/{name}/mean"] == done.metrics[f"confidence/{name}/mean"]
            assert made.metrics[f"advantage/{name}/undefined"] == done.metrics[f"advantage/{name}/undefined"]
        return {key: made.store.rows[key]["advantages"][0].item() for key in ANSWERS}

    # Beside calib_neg's two values of each prompt, R⁺ has two in the first; one alone cannot move.
    swapped = dict(TERMS["calib_neg"])
    swapped["p_1_0"], swapped["p_2_0"] = swapped["p_2_0"], swapped["p_1_0"]
    seen = [advantages(number) for number in range(1, 9)]
    neg = {round(found["p_2_0"] - ADVANTAGES["p_2_0"], 2) for found in seen}
    assert neg == {0.0, round(swapped["p_2_0"] - TERMS["calib_neg"]["p_2_0"], 2)}
    assert advantages(1) == seen[0]
    assert all(found["q_1_0"] + found["q_0_0"] == pytest.approx(0.0, abs=2e-3) for found in seen)


def test_padding_does_not_hide_missing_responses(step):
    from recipe.mer_r1.training.trainer import MissingResponsesError

    short = step("mer_r1.max_missing_share=0.1")
    with pytest.raises(MissingResponsesError, match=r"^1 of 6 responses are missing"):
        short.trainer._compute_old_log_prob(short.batch, short.metrics)


def test_an_async_trainer_replaces_failed_prompts_and_reports_lags(step):
    late = step("mer_r1.max_missing_share=1")
    late.trainer.trainer_mode, late.trainer.global_steps = "mer_r1_colocate_async", 3
    for key, tag in late.store.tags.items():
        tag["min_global_steps"] = 2 if key.startswith("p_") else 0
    late.metrics["training/rollout_failure/evicted_samples"] = 1
    late.trainer._compute_old_log_prob(late.batch, late.metrics)
    assert late.metrics["reward/missing"] == 1 + 3
    assert {name.split("/")[1] for name in late.metrics if "/lag_" in name} == {"lag_0", "lag_2"}


def asked_for_sets(step):
    """Of every log-prob pass of the actor: whether sets and shares were asked for."""
    return [("token_sets" in extra, "token_shares" in extra) for extra in step.trainer.actor_rollout_wg.asked]


def test_sets_are_asked_for_in_verls_own_pass_and_not_in_the_references(done):
    assert asked_for_sets(done) == [(True, True), (False, False)]
    sets, asked = done.trainer._confidence.sets, done.trainer.actor_rollout_wg.asked[0]
    assert (asked["token_sets"], asked["token_shares"]) == (sets.token_ids, sets.shares)


def test_where_verl_makes_no_pass_there_is_one_for_the_masses(step):
    bypassed = taken(step("algorithm.rollout_correction.bypass_mode=true"))
    assert asked_for_sets(bypassed) == [(True, True), (False, False)]
    for key, row in bypassed.store.rows.items():
        assert row["advantages"][0].item() == pytest.approx(ADVANTAGES.get(key, 0.0), abs=2e-3), key


WITHOUT_PASS = ("mer_r1.old_log_probs=update", "algorithm.rollout_correction=null")  # as a run settles it


def test_without_the_pass_the_actor_is_asked_for_the_references_log_probs_alone(step):
    from recipe.mer_r1.training.on_policy import on_policy_loss

    def advantages(made):
        return {key: made.store.rows[key]["advantages"].tolist() for key in ANSWERS}

    passed = taken(step("experiment=baseline"))
    assert passed.trainer.actor_rollout_wg.loss_fn is None
    made = taken(step("experiment=baseline", *WITHOUT_PASS))
    actor = made.trainer.actor_rollout_wg
    assert [extra.get("no_lora_adapter", False) for extra in actor.asked] == [True]
    assert actor.loss_fn.func is on_policy_loss
    assert actor.loss_fn.keywords["config"].loss_agg_mode == "seq-mean-token-mean"
    # Not the rollout's either: a part that wants old log-probs stops the run.
    assert not any("old_log_probs" in row for row in made.store.rows.values())
    assert advantages(made) == advantages(passed)
    assert made.metrics["reward/missing"] == 1

    gap = "rollout_actor_log_prob_diff"
    actor.update_metrics = {f"{gap}/max": 0.5, f"{gap}/mean": 0.25, "actor/entropy_loss": 1.5, "kl_loss": 0.125}
    made.trainer._update_actor(made.batch, made.metrics)
    assert (made.metrics[f"{gap}/max"], made.metrics[f"{gap}/mean"]) == (0.5, 0.25)
    assert made.metrics["actor/entropy"] == pytest.approx(1.5 * 6 / 5)  # one response of six was filled in
    assert made.metrics["actor/kl_loss"] == 0.125
    assert not any(name.startswith(f"actor/{gap}") for name in made.metrics)


def test_without_the_pass_a_batch_makes_one_update(step):
    from recipe.mer_r1.training.on_policy import SeveralUpdatesError

    made = step("experiment=baseline", *WITHOUT_PASS, "actor_rollout_ref.actor.ppo_mini_batch_size=1")
    with pytest.raises(SeveralUpdatesError, match="6 responses, but a mini-batch has 3"):
        made.trainer._compute_old_log_prob(made.batch, made.metrics)


@pytest.mark.parametrize(
    ("overrides", "asked"),
    [
        ("experiment=baseline", False),
        ("experiment=baseline mer_r1.confidence.always=true", True),
        ("experiment=baseline algorithm.adv_estimator=a1", True),
        ("experiment=a2", True),
        ("experiment=mer_r1 algorithm.adv_estimator=grpo", False),
    ],
)
def test_the_pass_is_made_where_a_term_needs_it(overrides, asked, step):
    made = taken(step(*overrides.split()))
    assert (made.trainer._confidence is not None) == asked
    assert asked_for_sets(made) == [(asked, asked), (False, False)]
    assert any(name.startswith("confidence/") for name in made.metrics) == asked
    assert made.metrics["reward/f1"] == pytest.approx(0.5)


def test_the_settings_of_the_run_reach_the_pass(step):
    confidence = step("mer_r1.confidence.floor=-3", "mer_r1.confidence.shared_tokens=keep").trainer._confidence
    assert confidence.settings.floor == -3
    assert {share for shares in confidence.sets.shares for share in shares} == {1.0}


def test_the_wheels_are_those_of_the_runs_folder(step, tmp_path):
    from recipe.mer_r1.method.wheels.table import WheelError

    with pytest.raises(WheelError, match="no_wheels"):
        step(f"mer_r1.wheels.folder={tmp_path / 'no_wheels'}")


def test_a_validation_counts_what_is_missing_and_keeps_corpora_apart(step, monkeypatch):
    from verl.trainer.ppo.v1 import PPOTrainerSync

    monkeypatch.setattr(PPOTrainerSync, "_val_metrics_update", lambda self, *args, **kwargs: {"val-core/x": 1.0})
    trainer = step().trainer
    trainer.val_dataset = [None] * 4
    infos = {"truth": ["w1/happy", "w1/happy", "w1/sad", "w1/sad"], "predicted": ["w1/happy", "", "w1/sad", "w1/sad"]}
    found = trainer._val_metrics_update(["a", "b", "a", "b"], list("1234"), infos, [1] * 4)
    assert found == {
        "val-core/x": 1.0,
        "val-aux/missing": 0,
        "val-aux/a/category/w1/happy/recall": 1.0,
        "val-aux/a/category/w1/happy/precision": 1.0,
        "val-aux/a/category/w1/sad/recall": 1.0,
        "val-aux/a/category/w1/sad/precision": 1.0,
        "val-aux/b/category/w1/happy/recall": 0.0,
        "val-aux/b/category/w1/sad/recall": 1.0,
        "val-aux/b/category/w1/sad/precision": 1.0,
    }
    infos |= {"num_words": [1, 2, 1, 1], "thought_tokens": [3, 0, 0, 9]}
    found = trainer._val_metrics_update(["a", "b", "a", "b"], list("1234"), infos, [1] * 4)
    assert [found[f"val-aux/{source}/answer_unknown"] for source in "ab"] == [0.0, 0.5]
    assert [found[f"val-aux/{source}/thought_empty"] for source in "ab"] == [0.5, 0.5]


def test_the_share_of_answers_that_no_wheel_knows():
    from recipe.mer_r1.training.trainer import _unknown_share

    assert _unknown_share([1, 0, 2, 1], ["", "", "w1/happy", ""]) == 2 / 4
