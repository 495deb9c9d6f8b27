"""Estimates: what is refused, and that they move the way they must."""

import pytest

from recipe.mer_r1.estimate import memory, phases, workload
from recipe.mer_r1.estimate.__main__ import assumptions, main
from recipe.mer_r1.run import launch

SEVEN = ("preset=omni7b", "cluster=h100_2x8", "experiment=mer_r1")


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
    more = estimate(model, "preset.prompts_per_step=16")[3]
    assert more["update"].flops == pytest.approx(2 * base["update"].flops)
    assert base["old log-probs"].flops > base["reference"].flops  # the fast branch
    plain = estimate(model, "experiment=baseline")[3]
    assert plain["old log-probs"].flops == plain["reference"].flops
    assert "reference" not in estimate(model, "actor_rollout_ref.actor.use_kl_loss=false")[3]
    unchecked = estimate(model, "preset.gradient_checkpointing=false")[3]
    assert base["update"].flops == pytest.approx(unchecked["update"].flops * 4 / 3)
    one_node = estimate(model, "cluster=h100_1x8")[3]
    assert one_node["update"].move < base["update"].move / 4  # NVLink against a network card
    longer = estimate(model, response_tokens=500)[3]
    assert longer["generation"].seconds > 1.9 * base["generation"].seconds
    assert base["update"].seconds == max(base["update"].compute, base["update"].move)
    parts = memory.update(config, given, model, clip)
    assert parts["weights"] == pytest.approx(model.all * 4 / 16 / 1e9)
    assert parts["Adam's moments"] == 2 * parts["gradients"] == 2 * parts["weights"]


@pytest.mark.seam
def test_the_command_says_what_it_assumes_and_what_the_paper_took(capsys):
    assert main([*SEVEN, "estimate.response_tokens=300"]) == 0
    said = capsys.readouterr().out
    assert "3,262 steps" in said
    assert "the paper: 18 h on 16 GPUs, 288 GPU hours" in said
    assert "estimate.response_tokens = 300" in said
    assert "fits in 80" in said


def test_an_experiment_on_some_rows_takes_their_steps(capsys):
    assert main([*SEVEN, "experiment=affectgpt_r1"]) == 0
    assert "125 steps" in capsys.readouterr().out
