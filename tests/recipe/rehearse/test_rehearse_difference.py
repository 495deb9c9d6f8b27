"""What a rehearsal changes, and that nothing else differs from the real configuration."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from recipe.mer_r1.rehearse import plan
from recipe.mer_r1.rehearse.changes import Places, prompts_per_step
from recipe.mer_r1.rehearse.difference import UnexplainedError, differences, lines
from recipe.mer_r1.run import launch

pytestmark = pytest.mark.slow

PLACES = Places(Path("/out"))
USER = ["preset=omni7b", "cluster=h100_2x8", "experiment=mer_r1"]
KEPT = {
    "ppo": [
        *("preset.mixed_precision.param_dtype", "preset.model_dtype", "preset.gradient_checkpointing"),
        *("preset.attention", "preset.lr", "preset.kl_coef", "preset.responses_per_prompt"),
        *("preset.micro_batch_size", "preset.micro_batch_tokens"),
        *("actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu", "actor_rollout_ref.actor.use_dynamic_bsz"),
        "actor_rollout_ref.ref.log_prob_max_token_len_per_gpu",
        *("preset.max_prompt_length", "preset.max_response_length", "preset.prompt_cache_size"),
        *("preset.rollout.dtype", "preset.rollout.max_batched_tokens", "preset.rollout.max_sequences"),
        *("preset.rollout.tensor_parallel", "preset.rollout.memory_utilization"),
        *("actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu", "actor_rollout_ref.actor.fsdp_config.strategy"),
        *("actor_rollout_ref.rollout.max_model_len", "actor_rollout_ref.rollout.n"),
        "actor_rollout_ref.rollout.load_format",
    ],
    "sft": [
        *("optim.lr", "data.max_length", "data.micro_batch_size_per_gpu", "engine.strategy"),
        "preset.sft.warmup_steps",
    ],
}


@pytest.fixture(scope="module")
def both():
    return plan.trees(USER, PLACES)


@pytest.mark.parametrize(
    "user", [["preset=omni3b", "cluster=h100_1x8", "experiment=b1"], ["preset=omni7b", "mode=separate_async"]]
)
def test_every_difference_has_a_reason(user):
    for tree in plan.trees(user, PLACES).values():
        assert all(bool(found.why) != bool(found.follows) for found in tree.found)
        given = {override.lstrip("+").split("=")[0] for override in tree.overrides}
        assert {found.key for found in tree.found if found.why} <= given


@pytest.mark.parametrize("name", ["ppo", "sft"])
def test_what_must_stay_stays(both, name):
    tree = both[name]
    for key in KEPT[name]:
        value = OmegaConf.select(tree.real, key, throw_on_missing=True)
        assert value is not None, key
        assert OmegaConf.select(tree.rehearsed, key) == value, key
    assert tree.rehearsed.preset.media == {**tree.real.preset.media}
    assert tree.rehearsed.preset.mixed_precision.param_dtype == "bf16"
    if name == "ppo":
        for part in ("mer_r1", "experiment", "algorithm"):
            assert tree.rehearsed[part] == tree.real[part]
        assert (tree.rehearsed.preset.media.max_frames, tree.rehearsed.preset.media.max_pixels) == (32, 100_352)


def test_a_difference_without_a_reason_is_an_error(both):
    tree = both["ppo"]
    reasons = {found.key: found.why for found in tree.found if found.why}
    overrides = [*tree.overrides, "preset.gradient_checkpointing=false"]
    rehearsed, raw = (launch.compose("ppo", overrides, resolve=resolve) for resolve in (True, False))
    with pytest.raises(UnexplainedError, match=r"preset\.gradient_checkpointing: True → False") as error:
        differences(tree.real, rehearsed, raw, reasons)
    assert "enable_gradient_checkpointing" not in str(error.value)  # it follows the key that is named
    del reasons["preset.device"]
    with pytest.raises(UnexplainedError, match=r"preset\.device: cuda → cpu"):
        differences(tree.real, tree.rehearsed, launch.compose("ppo", tree.overrides, resolve=False), reasons)


def test_what_follows_what():
    raw = OmegaConf.create(
        {
            "a": {"size": 2, "name": "x"},
            "copy": "${a}",
            "top": {"b": {"text": "of ${.number} in ${a.name}", "number": 1}, "up": "${..d}"},
            "c": ["${top.b.number}"],
            "d": 5,
        }
    )
    real, rehearsed = OmegaConf.create(raw), OmegaConf.create(raw)
    real.a.size, real.top.b.number, real.d = 4, 3, 6
    for config in (real, rehearsed):
        OmegaConf.resolve(config)
    found = differences(real, rehearsed, raw, {"a.size": "small", "top.b.number": "few", "d": "last"})
    follows = {"copy.size": "a.size", "top.b.text": "top.b.number", "c": "top.b.number", "top.up": "d"}
    assert {each.key: each.follows for each in found if each.follows} == follows
    assert [each.key for each in found if each.why] == ["a.size", "top.b.number", "d"]
    assert lines(found)[:2] == ["a.size: 4 → 2   (small)", "    copy.size: 4 → 2"]


def test_two_ranks_with_two_micro_batches_each(both):
    preset = both["ppo"].rehearsed.preset
    assert (preset.nnodes, preset.ranks_per_node, preset.prompts_per_step, preset.sft.batch_size) == (1, 2, 1, 4)
    assert (preset.steps, preset.sft.steps, preset.sft.epochs) == (2, 2, None)
    alone = plan.trees(USER, PLACES, ranks=1)["sft"].rehearsed.preset
    assert (alone.ranks_per_node, alone.prompts_per_step, alone.sft.batch_size) == (1, 1, 2)
    lora = plan.trees(["preset=omni7b", "cluster=h100_1x1_lora"], PLACES)["ppo"].rehearsed.preset
    assert (lora.ranks_per_node, lora.prompts_per_step, lora.sft.batch_size) == (1, 1, 4)  # SFT: micro-batches of 2
    sizes = OmegaConf.create(
        {"responses_per_prompt": 4, "micro_batch_size": 2, "micro_batch_tokens": None, "prompts_per_step": 8}
    )
    assert prompts_per_step(sizes, 2) == 2
    sizes.micro_batch_tokens = 8192  # the update has one response in each
    assert prompts_per_step(sizes, 2) == 1
    sizes.update({"responses_per_prompt": 3, "micro_batch_size": 1, "micro_batch_tokens": None})
    assert prompts_per_step(sizes, 2) == 2


def test_the_update_has_a_response_in_each_micro_batch_and_the_other_passes_have_groups(both):
    roles, real = both["ppo"].rehearsed.actor_rollout_ref, both["ppo"].real.actor_rollout_ref
    limits = [roles.actor.ppo_max_token_len_per_gpu]
    limits += [node.log_prob_max_token_len_per_gpu for node in (roles.rollout, roles.ref)]
    assert limits == [1, 8192, 8192]
    assert real.actor.ppo_max_token_len_per_gpu == 8192
    # The command that runs has the keys that keep their values too.
    assert launch.compose("ppo", both["ppo"].overrides).actor_rollout_ref == roles
    counted = plan.trees([*USER, "preset.micro_batch_tokens=null"], PLACES)["ppo"]
    assert not counted.rehearsed.actor_rollout_ref.actor.use_dynamic_bsz
    assert not [found.key for found in counted.found if "token_len" in found.key]


def test_the_users_keys_are_in_both_and_some_win():
    changes = ["preset.max_response_length=16", "preset.steps=5", "preset.device=cuda", "mer_r1.min_thought_tokens=3"]
    trees = plan.trees([*USER, *changes, "trainer.val_before_train=false"], PLACES)
    ppo, sft = trees["ppo"], trees["sft"]
    assert ppo.real.data.max_response_length == ppo.rehearsed.data.max_response_length == 16
    assert ppo.real.preset.steps == ppo.rehearsed.preset.steps == 5
    assert sft.rehearsed.preset.max_response_length == 16
    assert ppo.rehearsed.mer_r1.min_thought_tokens == 3
    assert ppo.rehearsed.trainer.device == "cpu"  # there is no other
    assert ppo.rehearsed.trainer.val_before_train
    assert {"preset.steps", "preset.max_response_length"}.isdisjoint(found.key for found in ppo.found)
    assert "trainer.val_before_train" in {found.key for found in ppo.found}


def test_a_wrong_key_is_answered_as_by_the_run(capsys):
    with pytest.raises(SystemExit) as ended:
        plan.trees([*USER, "preset.stepz=3"], PLACES)
    assert ended.value.code == 2
    assert "did you mean preset.steps" in capsys.readouterr().err
