"""Run by test_patches.py in a process of its own: what vLLM does to a linear layer and to a prompt with media.

    python vllm_probe.py MODEL CASES

CASES is a torch file: a list of dicts with ``prompt_ids`` (expanded), ``collapsed``, ``video``, ``audio``, ``kwargs``
and ``positions`` (3, length), all as transformers has them. Prints one line of JSON.
"""

import json
import os
import sys

import torch


def packs_on_this_machine() -> bool:
    """Whether vLLM has packed kernels for fp32 here."""
    import vllm._custom_ops as ops
    from vllm.platforms import current_platform

    return current_platform.is_cpu() and bool(getattr(ops, "_supports_onednn", False))


def weight_after_loading() -> int:
    """Elements left in a linear layer's weight once vLLM has prepared it."""
    from vllm.model_executor.layers.linear import UnquantizedLinearMethod

    layer = torch.nn.Linear(64, 128, bias=False)
    UnquantizedLinearMethod().process_weights_after_loading(layer)
    return layer.weight.numel()


def features(output) -> list:
    """What the engine hands to the model's ``get_mrope_input_positions``."""
    from vllm.multimodal.inputs import MultiModalFeatureSpec

    found = []
    for modality, ranges in output["mm_placeholders"].items():
        for item, place in zip(output["mm_kwargs"][modality], ranges, strict=True):
            found.append(MultiModalFeatureSpec(data=item, modality=modality, identifier="", mm_position=place))
    return sorted(found, key=lambda feature: feature.mm_position.offset)


def prompt(processor, model, case) -> dict:
    """Whether vLLM expands a prompt as transformers does, and how far its positions are from transformers'."""
    items = processor.info.parse_mm_data({"video": [case["video"]], "audio": [case["audio"]]})
    output = processor(case["collapsed"], items, hf_processor_mm_kwargs=case["kwargs"])
    ids = case["prompt_ids"]
    positions, delta = model.get_mrope_input_positions(ids, features(output))
    shift = positions - case["positions"]
    return {
        "same_ids": list(output["prompt_token_ids"]) == ids,
        "same_tokens_counted": sorted(output["prompt_token_ids"]) == sorted(ids),
        "shifts": sorted(set(shift.flatten().tolist())),
        "delta_off": delta - (int(case["positions"].max()) + 1 - len(ids)),
    }


def cached_audio(config, case) -> str:
    """What the processor says, its cache on, to another video with an audio that it has seen."""
    from vllm.multimodal import MULTIMODAL_REGISTRY
    from vllm.multimodal.cache import MultiModalProcessorOnlyCache

    processor = MULTIMODAL_REGISTRY.create_processor(config, cache=MultiModalProcessorOnlyCache(config))
    try:
        for video in (case["video"], 255 - case["video"]):
            items = processor.info.parse_mm_data({"video": [video], "audio": [case["audio"]]})
            processor(case["collapsed"], items, hf_processor_mm_kwargs=case["kwargs"])
    except ValueError as error:
        return str(error)
    return "fine"


def sees_each_run() -> bool:
    """Whether two prompts with interleaved sound in one batch are taken for what they are."""
    from vllm.model_executor.models.qwen2_5_omni_thinker import check_interleaved_audio_video

    kinds = torch.tensor([0, 1, 2, 1, 0, 1, 2, 1, 0])
    return check_interleaved_audio_video(kinds == 1, kinds == 2, 4, 2)


def engines_ports(named: str = "15000") -> dict:
    """Where an engine's workers meet, by default and where the user has named a port."""
    from vllm.utils.network_utils import get_open_port

    default = [get_open_port() for _ in range(2)]
    os.environ["VLLM_PORT"] = named
    asked = get_open_port()
    del os.environ["VLLM_PORT"]
    return {"default": default, "asked": asked}


def sampled(*seeds: int | None) -> list[int]:
    """The first request's token of a step with these seeds, by seed of the process."""
    from vllm.v1.sample.ops.topk_topp_sampler import TopKTopPSampler

    sampler, found = TopKTopPSampler(), []
    with torch._dynamo.config.patch(disable=True):  # what is released compiles for half a minute
        for number in range(3):
            torch.manual_seed(number)
            generators = {
                row: torch.Generator().manual_seed(seed) for row, seed in enumerate(seeds) if seed is not None
            }
            found.append(sampler(torch.zeros(len(seeds), 1000), generators, None, None)[0][0].item())
    return found


def main() -> None:
    from vllm.config import ModelConfig, VllmConfig, set_current_vllm_config
    from vllm.model_executor.model_loader import get_model_architecture
    from vllm.multimodal import MULTIMODAL_REGISTRY
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    folder, cases = sys.argv[1], torch.load(sys.argv[2], weights_only=False)
    config = ModelConfig(model=folder, dtype="float32", limit_mm_per_prompt={"video": 1, "audio": 1, "image": 0})
    with set_current_vllm_config(VllmConfig(model_config=config)):
        architecture, _ = get_model_architecture(config)
        model = architecture.__new__(architecture)
        torch.nn.Module.__init__(model)
        model.config = config.hf_config.thinker_config
        processor = MULTIMODAL_REGISTRY.create_processor(config)
        result = {
            "architecture": f"{architecture.__module__}.{architecture.__name__}",
            "packs_on_this_machine": packs_on_this_machine(),
            "engine's ports": engines_ports(),
            "weight_elements": weight_after_loading(),
            "seeded beside unseeded": sampled(7, None),
            "both seeded": sampled(7, 8),
            "sees_each_run": sees_each_run(),
            "takes_one_run": getattr(sys.modules[architecture.__module__], "TAKES_ONE_RUN", None),
            "cached_audio": {name: cached_audio(config, case) for name, case in cases.items()},
            "prompts": {name: prompt(processor, model, case) for name, case in cases.items()},
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
