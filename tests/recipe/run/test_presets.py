"""Presets and clusters: the same keys everywhere, the paper's numbers, lengths that must fit each other."""

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from published_sizes import PUBLISHED

from recipe.mer_r1.run.preflight import PreflightError
from recipe.mer_r1.run.sft_preflight import check_length

CONF = Path(__file__).parents[3] / "conf"
PRESETS = sorted(file.stem for file in (CONF / "preset").glob("*.yaml"))
CLUSTERS = sorted(file.stem for file in (CONF / "cluster").glob("*.yaml"))
FREE = ("ray",)  # Ray's own arguments, which differ by machine


def preset(name):
    return OmegaConf.load(CONF / "preset" / f"{name}.yaml")


def keys(node, prefix=""):
    found = set()
    for key in node:
        found.add(prefix + key)
        value = OmegaConf.to_container(node, resolve=False)[key]
        if isinstance(value, dict) and key not in FREE:
            found |= keys(OmegaConf.create(value), f"{prefix}{key}.")
    return found


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_the_keys_of_tiny_and_its_own_name(name):
    assert keys(preset(name)) == keys(preset("tiny"))
    assert preset(name).name == name


@pytest.mark.parametrize("name", PRESETS)
def test_a_micro_batch_holds_the_longest_prompt_with_all_its_responses(name):
    """And their fast forms, of up to a quarter of a response."""
    ours = preset(name)
    group = ours.max_prompt_length + ours.responses_per_prompt * ours.max_response_length * 5 // 4
    assert ours.micro_batch_tokens >= group


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_cluster_names_only_keys_of_a_preset(name):
    cluster = OmegaConf.load(CONF / "cluster" / f"{name}.yaml")
    assert keys(cluster) <= keys(preset("tiny"))
    assert (CONF / "cluster" / f"{name}.yaml").read_text().startswith("# @package preset\n")


@pytest.mark.parametrize("name", PRESETS)
def test_prompts_are_split_on_a_gpu_alone(name):
    """vLLM cannot split a seeded request on a CPU; elsewhere it calls a model without chunked prefill unsupported."""
    assert preset(name).rollout.chunked_prefill is (preset(name).device == "cuda")


def test_the_cluster_for_small_presets_splits_prompts_too():
    assert OmegaConf.load(CONF / "cluster" / "gpu_1x1.yaml").rollout.chunked_prefill is True


@pytest.mark.parametrize("name", ["omni3b", "omni7b"])
def test_the_papers_settings(name):
    ours = preset(name)
    assert (ours.sft.epochs, ours.sft.steps, ours.sft.lr) == (2, None, 2e-5)
    assert (ours.epochs, ours.steps, ours.lr) == (1, None, 2e-6)
    assert ours.responses_per_prompt == 4
    # Batch size 1 and two accumulation steps on 16 GPUs (appendix C).
    assert ours.nnodes * ours.ranks_per_node == 16
    assert ours.prompts_per_step * ours.responses_per_prompt == 1 * 2 * 16
    experiment = OmegaConf.load(CONF / "experiment" / "mer_r1.yaml")
    assert (experiment.lambda_cali, experiment.lambda_fmt) == (0.1, 0.1)


@pytest.mark.parametrize("name", ["omni3b", "omni7b"])
def test_every_number_says_where_it_comes_from(name):
    """A line with a number has a note, follows a line that is one, or stands in a block that is all ours."""
    noted = all_ours = False
    for line in (CONF / "preset" / f"{name}.yaml").read_text().splitlines():
        if line.lstrip().startswith("#"):
            noted, all_ours = True, all_ours or re.search(r"\b(All o|O)urs\b", line) is not None
        else:
            all_ours = all_ours and bool(line.strip())
            if any(character.isdigit() for character in line.split("#")[0]):
                assert "#" in line or noted or all_ours, line
            noted = False


def test_the_3b_preset_differs_from_the_7b_one_in_the_model_alone():
    small, large = preset("omni3b"), preset("omni7b")
    for node in (small, large):
        node.name = node.model_path = node.sft.model_path = node.rollout.weight_bucket_mb = None
    assert small == large


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_a_bucket_holds_the_largest_weight(name):
    """verl sends fp32 weights to vLLM in buckets; one tensor has to fit."""
    text = PUBLISHED[name].text
    assert preset(name).rollout.weight_bucket_mb << 20 >= text["vocab_size"] * text["hidden_size"] * 4


@pytest.mark.parametrize(
    ("length", "problem"),
    [
        ({"steps": None, "epochs": None}, "set one of them"),
        ({"steps": 3, "epochs": 2}, "set one of them"),
        ({"steps": 0, "epochs": None}, "preset.sft.steps=0"),
        ({"steps": None, "epochs": 1.5}, "preset.sft.epochs=1.5"),
    ],
)
def test_sft_has_one_length(length, problem):
    with pytest.raises(PreflightError, match=problem):
        check_length(OmegaConf.create(length))


def test_sft_lengths_that_are_fine():
    check_length(OmegaConf.create({"steps": None, "epochs": 2}))
    check_length(OmegaConf.create({"steps": 5, "epochs": None}))
