"""Estimates: what is refused, and that they move the way they must."""

import pytest

from recipe.mer_r1.estimate import choices, memory, packing, phases, workload
from recipe.mer_r1.estimate.__main__ import assumptions, main
from recipe.mer_r1.run import launch

SEVEN = ("preset=omni7b", "cluster=h100_2x8", "experiment=mer_r1")
BY_RESPONSES = "preset.micro_batch_tokens=null"


@pytest.fixture(scope="module")
def model():
    """Qwen2.5-Omni-7B's shape, counted once."""
    return workload.load_model(launch.compose("ppo", [*SEVEN]), None)


def estimate(model, *overrides, **assumed):
    config = launch.compose("ppo", [*SEVEN, *overrides])
    given = assumptions([f"estimate.{key}={value}" for key, value in assumed.items()])
    clip = workload.clip(model, config.preset, given)
    return config, given, clip, {phase.name: phase for phase in phases.phases(config, given, model, clip)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["preset=tiny"], "runs on a CPU"),
        (["preset=omni7b", "estimate.clp=3"], "Key 'clp' is not in struct"),
        (["preset=omni9b"], "omni9b"),
        (["preset=omni7b", "preset.sft.model_path=nobody/nothing"], "nobody/nothing: not a folder"),
        (["preset=omni7b", "mode=separate_async"], "only mode=sync can be estimated"),
        ([*SEVEN, "mer_r1.old_log_probs=update"], "mer_r1.old_log_probs=update is not possible with slow-fast"),
        (
            ["preset=omni7b", "preset.micro_batch_tokens=0"],
            "preset.micro_batch_tokens: the limit of a micro-batch must",
        ),
    ],
)
def test_what_cannot_be_estimated_is_refused_with_the_reason(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.seam
def test_counts_of_the_model(model):
    assert model.all / 1e9 == pytest.approx(8.93, abs=0.01)
    assert model.trained == model.all
    frozen = workload.load_model(launch.compose("ppo", [*SEVEN, "preset.frozen_towers=[vision,audio]"]), None)
    assert frozen.trained == model.text
    adapted = workload.load_model(launch.compose("ppo", ["preset=omni7b", "cluster=h100_1x1_lora"]), None)
    # 32 · (in + out) of q, k, v, o, gate, up and down, 28 blocks.
    widths = 2 * (3584 + 3584) + 2 * (3584 + 512) + 3 * (3584 + 18_944)
    assert adapted.trained == 32 * 28 * widths


@pytest.mark.seam
def test_a_clips_tokens_are_the_processors(model):
    _, _, clip, _ = estimate(model)
    # 5 s at 2 frames a second, two frames a patch; 1280 × 720 scaled to at most 100,352 pixels: 24 × 32 … of 14.
    assert clip.video_tokens % 5 == 0
    assert clip.audio_tokens == 125
    assert clip.prompt == clip.video_tokens + 125 + 150
    with pytest.raises(workload.EstimateError, match=r"response has 9999 tokens, over preset.max_response_length=512"):
        estimate(model, response_tokens=9999)


@pytest.mark.seam
def test_phases_move_as_they_must(model):
    config, given, clip, base = estimate(model)
    assert list(base) == ["generation", "old log-probs", "reference", "update", "weights to vLLM"]
    few, more = (
        estimate(model, BY_RESPONSES, f"preset.prompts_per_step={prompts}")[3]["update"] for prompts in (8, 16)
    )
    assert more.flops == pytest.approx(2 * few.flops)
    few, more = (
        estimate(model, "preset.kept_forwards=0", f"preset.prompts_per_step={prompts}")[3]["update"]
        for prompts in (16, 96)
    )
    assert more.flops == pytest.approx(6 * few.flops)
    kept, too_many = (estimate(model, f"preset.prompts_per_step={prompts}")[3]["update"] for prompts in (16, 96))
    assert kept.flops == pytest.approx(3 / 4 * few.flops)  # without the forward; recomputed once by checkpointing
    assert too_many.flops == more.flops
    assert (few.batch.forwards, more.batch.forwards) == (1, 2)  # 8,192 tokens hold four prompts with their responses
    assert more.gb == pytest.approx(2 * few.gb)
    assert base["old log-probs"].flops > base["reference"].flops  # the fast branch
    plain = estimate(model, "experiment=baseline", "mer_r1.old_log_probs=pass")[3]
    assert plain["old log-probs"].flops == plain["reference"].flops
    assert "reference" not in estimate(model, "actor_rollout_ref.actor.use_kl_loss=false")[3]
    unchecked = estimate(model, "preset.gradient_checkpointing=false")[3]
    assert base["update"].flops == pytest.approx(unchecked["update"].flops * 3 / 2)
    assert unchecked["update"].flops == pytest.approx(2 * base["reference"].flops)  # the backward alone
    one_card = estimate(model, **{"gpu.network_cards": 1})[3]
    assert one_card["update"].move == pytest.approx(8 * base["update"].move)
    longer = estimate(model, response_tokens=500)[3]
    assert longer["generation"].seconds > 1.9 * base["generation"].seconds
    assert base["update"].seconds == max(base["update"].compute, base["update"].move)
    parts = memory.update(config, given, model, clip)
    assert parts["weights"] == pytest.approx(model.all * 4 / 16 / 1e9)
    assert parts["Adam's moments"] == 2 * parts["gradients"] == 2 * parts["weights"]


@pytest.mark.seam
def test_the_prompt_is_read_once_for_the_responses_of_a_micro_batch(model):
    """One node: four responses of 250 tokens per GPU, all of one prompt of 875; branches of 24."""
    rows = {}
    matrices = 28 * (3584 * (2 * 3584 + 2 * 512) + 3 * 3584 * 18_944)
    for size in (1, 2, 4):
        config, given, clip, found = estimate(
            model, "cluster=h100_1x8", BY_RESPONSES, f"preset.micro_batch_size={size}"
        )
        assert clip.prompt == 875
        rows[size] = {name: found[name].batch for name in ("old log-probs", "reference", "update")}
        assert all(batch.forwards == 4 // size for batch in rows[size].values())
        assert rows[size]["update"].tokens == (4 // size) * 875 + 4 * 250
        assert rows[size]["old log-probs"].tokens == (4 // size) * 875 + 4 * (250 + 24)
        towers = 4 // size * clip.tower_flops
        pairs = 4 // size * 875**2 / 2 + 4 * (250 * 875 + 250**2 / 2)
        head = 2 * 4 * 250 * 3584 * 152_064  # logits of responses alone
        expected = 2 * rows[size]["update"].tokens * matrices + 4 * 28 * 3584 * pairs + head
        assert found["reference"].flops - towers == pytest.approx(expected)
    config, given, clip, apart = estimate(
        model, "cluster=h100_1x8", BY_RESPONSES, "preset.micro_batch_size=4", "mer_r1.shared_prompt=false"
    )
    assert apart["update"].batch.tokens == 4 * (875 + 250)
    # Branches have a forward of their own.
    assert apart["old log-probs"].batch.tokens == 4 * (875 + 250) + 4 * (875 + 24)
    assert apart["old log-probs"].batch.forwards == 2
    assert apart["old log-probs"].gb == 2 * apart["reference"].gb
    shared = estimate(model, "cluster=h100_1x8", BY_RESPONSES, "preset.micro_batch_size=4")[3]
    assert apart["update"].flops > 2 * shared["update"].flops
    assert apart["old log-probs"].flops > 3.5 * shared["old log-probs"].flops
    assert choices.tokens_saved(config, clip, 250) == 1
    fewer = memory.update(
        launch.compose("ppo", [*SEVEN, BY_RESPONSES, "preset.micro_batch_size=2"]), given, model, clip
    )
    more = memory.update(config, given, model, clip)
    assert more["logits"] == pytest.approx(4 * 1125 * 152_064 * 10 / 1e9)
    assert fewer["logits"] == pytest.approx(2 * 250 * 152_064 * 10 / 1e9)


@pytest.mark.seam
def test_gathers_and_reductions_are_those_of_the_settings(model):
    weights, gradients = 2 * model.all / 1e9, 4 * model.all / 1e9
    one, two, kept, late = (
        estimate(model, "cluster=h100_1x8", BY_RESPONSES, *more)[3]
        for more in (
            ("preset.micro_batch_size=4",),
            ("preset.micro_batch_size=2",),
            ("preset.micro_batch_size=2", f"{choices.RESHARD}=false"),
            (
                "preset.micro_batch_size=2",
                "actor_rollout_ref.actor.fsdp_config.use_no_sync_for_gradient_accumulation=true",
            ),
        )
    )
    for found, gathers, reductions in ((one, 2, 1), (two, 4, 2), (kept, 2, 2), (late, 4, 1)):
        assert found["update"].gb == pytest.approx(7 / 8 * (gathers * weights + reductions * gradients))
    for found, gathers in ((one, 1), (two, 2), (kept, 1), (late, 2)):
        assert found["old log-probs"].gb == pytest.approx(7 / 8 * gathers * weights)
    assert kept["reference"].gb == two["reference"].gb  # another engine
    assert one["weights to vLLM"].gb == pytest.approx(7 / 8 * gradients)


@pytest.mark.seam
def test_memory_of_the_settings(model):
    def parts(*more):
        config, given, clip, _ = estimate(model, *more)
        return memory.update(config, given, model, clip) | memory.generation(config, given, model)

    all_gpus, hybrid = parts(), parts("preset.fsdp_size=8")
    for name in ("weights", "gradients", "Adam's moments"):
        assert hybrid.get(name) == 2 * all_gpus[name], name
    kept = parts(f"{choices.RESHARD}=false")
    assert kept["gathered weights"] == pytest.approx(2 * model.all / 1e9)
    late = "actor_rollout_ref.actor.fsdp_config.use_no_sync_for_gradient_accumulation=true"
    assert parts(late, BY_RESPONSES)["gradients to be reduced"] == pytest.approx(4 * model.all / 1e9)
    assert parts(late)["gradients to be reduced"] == 0  # one micro-batch: nothing is accumulated


@pytest.mark.seam
def test_the_old_log_probs_are_left_out_where_the_run_leaves_them_out(model):
    """tests/recipe/run/test_on_policy.py has all cases."""
    without = ["generation", "reference", "update", "weights to vLLM"]
    assert list(estimate(model, "experiment=baseline")[3]) == without
    assert "old log-probs" in estimate(model, "experiment=baseline", "mer_r1.old_log_probs=pass")[3]
    assert "old log-probs" in estimate(model, "experiment=baseline", "mer_r1.confidence.always=true")[3]
    assert "old log-probs" in estimate(model, "experiment=baseline", "algorithm.use_kl_in_reward=true")[3]


@pytest.mark.parametrize(
    ("overrides", "rows"),
    [
        # Two of a prompt's four responses per GPU; four; 32, of which 8 prompts.
        ([], [(2,)]),  # all presets count tokens
        ([BY_RESPONSES, "preset.micro_batch_size=1"], [(1,), (1,)]),
        ([BY_RESPONSES, "preset.micro_batch_size=2"], [(2,)]),
        ([BY_RESPONSES, "preset.micro_batch_size=2", "mer_r1.shared_prompt=false"], [(1, 1)]),
        ([BY_RESPONSES, "preset.micro_batch_size=2", "preset.attention=flash_attention_2"], [(1, 1)]),
        (["cluster=h100_1x8", BY_RESPONSES, "preset.micro_batch_size=3"], [(3,), (1,)]),
        (["cluster=h100_1x8", BY_RESPONSES, "preset.micro_batch_size=4", "preset.prompts_per_step=16"], [(4,), (4,)]),
        (["cluster=h100_1x8", BY_RESPONSES, "preset.micro_batch_size=8", "preset.prompts_per_step=16"], [(4, 4)]),
        (
            ["cluster=h100_1x8", BY_RESPONSES, "preset.micro_batch_size=6", "preset.prompts_per_step=24"],
            [(4, 2), (2, 4)],
        ),
        # A row of four has 100 + 4 · 20 tokens.
        (["cluster=h100_1x8", "preset.prompts_per_step=24", 360], [(4, 4), (4,)]),
        (["cluster=h100_1x8", "preset.prompts_per_step=24", 359], [(4,), (4,), (4,)]),
        (["cluster=h100_1x8", 160], [(3,), (1,)]),
        (["cluster=h100_1x8", 1], [(1,), (1,), (1,), (1,)]),
        (["cluster=h100_1x8", "mer_r1.shared_prompt=false", 240], [(1, 1), (1, 1)]),
    ],
)
def test_what_micro_batches_hold(overrides, rows):
    limit = next((value for value in overrides if isinstance(value, int)), None)
    config = launch.compose("ppo", [*SEVEN, *(value for value in overrides if value != limit)])
    if limit:
        config.preset.micro_batch_tokens = limit
    clip = workload.Clip(video_tokens=50, audio_tokens=30, text_tokens=20, tower_flops=0.0)
    assert packing.batch(config, clip, response=20).rows == tuple(rows)


@pytest.mark.seam
def test_choices_hold_what_is_set_and_the_favoured_is_fast_and_small(model):
    def found(**assumed):
        config, given, clip, _ = estimate(model, BY_RESPONSES, **assumed)
        return list(choices.choices(config, given, model, clip))

    cards = found()
    assert [choice.is_set for choice in cards].count(True) == 1
    config, _, _, phases_set = estimate(model, BY_RESPONSES)
    assert next(choice for choice in cards if choice.is_set).seconds == pytest.approx(
        6 + sum(phase.seconds for phase in phases_set.values())
    )
    assert {tuple(choice.settings.values()) for choice in cards} == {
        (size, micro_batch, reshard) for size in (-1, 8) for micro_batch in (1, 2) for reshard in (True, False)
    }
    assert all(choice.fits for choice in cards)
    best = choices.favoured(cards, 80)
    assert best.settings == {choices.FSDP_SIZE: -1, choices.RESPONSES: 2, choices.RESHARD: True}
    assert best.seconds <= choices.CLOSE * min(choice.seconds for choice in cards)
    one_card = choices.favoured(found(**{"gpu.network_cards": 1}), 80)
    assert one_card.settings[choices.FSDP_SIZE] == 8
    # Memory decides: where two replicas do not fit, all GPUs share one.
    small = choices.favoured(found(**{"gpu.network_cards": 1, "gpu.memory_gb": 31}), 31)
    assert small.settings[choices.FSDP_SIZE] == -1
    assert choices.favoured(found(**{"gpu.memory_gb": 10}), 10) is None
    assert config.preset.micro_batch_size == 1, "a choice must not change the configuration"


@pytest.mark.seam
def test_choices_of_a_run_that_counts_tokens_are_limits_that_cut_it_differently(model):
    """A prompt of 875 tokens has 1,375 with two responses of 250, 1,875 with four, and 96 more with their branches."""

    def found(*more):
        config, given, clip, now = estimate(model, *more)
        taken = list(choices.choices(config, given, model, clip))
        (is_set,) = [choice for choice in taken if choice.is_set]
        assert is_set.settings[choices.TOKENS] == config.preset.micro_batch_tokens
        assert is_set.seconds == pytest.approx(6 + sum(phase.seconds for phase in now.values()))
        return {choice.settings[choices.TOKENS]: choice for choice in taken}

    shared = found()
    assert list(shared) == [1024, 8192], "2,048 and 16,384 hold the two responses too"
    assert shared[1024].seconds > shared[8192].seconds
    alone = found("cluster=h100_1x1_lora")
    assert list(alone) == [1024, 2048, 4096, 8192, 16384]  # 32 responses: one each, 1, 2, 4 and 8 groups
    assert list(found("preset.micro_batch_tokens=2048", "cluster=h100_1x8")) == [1024, 2048]
    assert list(found("preset.micro_batch_tokens=1", "cluster=h100_1x8")) == [1], "half of it is no limit"


def test_the_favoured_choice_is_not_slower_for_little_memory():
    def choice(seconds, gb, fits=True):
        return choices.Choice({}, False, seconds, gb, 0.0, fits)

    slow, fast, large, too_large = choice(10.1, 20), choice(10.0, 23), choice(9.95, 60), choice(5.0, 99, fits=False)
    assert choices.favoured([slow, fast, large, too_large], 80) is fast
    assert choices.favoured([slow, fast, large, too_large], 40) is slow  # 3 GB are more than a twentieth
    assert choices.favoured([slow, choice(9.0, 60)], 80).seconds == 9.0
    alike = choices.Choice({}, True, 10.02, 20.0, 0.0, True)
    assert choices.favoured([fast, alike], 80) is alike  # what is set is as good


@pytest.mark.seam
@pytest.mark.parametrize("overrides", [("cluster=h100_2x8",), ("cluster=h100_1x8",), ("cluster=preset",)])
def test_clusters_shard_as_the_estimate_favours(overrides, model):
    config, given, clip, _ = estimate(model, *overrides)
    best = choices.favoured(list(choices.choices(config, given, model, clip)), given.gpu.memory_gb)
    assert config.preset.fsdp_size == best.settings[choices.FSDP_SIZE]


@pytest.mark.seam
def test_the_command_says_what_it_assumes_and_what_the_paper_took(capsys):
    assert main([*SEVEN, "estimate.response_tokens=300"]) == 0
    said = capsys.readouterr().out
    assert "3,262 steps" in said
    assert "the paper: 18 h on 16 GPUs, 288 GPU hours" in said
    assert "estimate.response_tokens = 300" in said
    assert "fits in 80" in said
    assert "what the cluster could choose" in said
    assert "shared prompt: " in said


def test_an_experiment_on_some_rows_takes_their_steps(capsys):
    assert main([*SEVEN, "experiment=affectgpt_r1"]) == 0
    assert "125 steps" in capsys.readouterr().out
