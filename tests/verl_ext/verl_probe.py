"""Run by test_patches.py in a process of its own: what verl does at each place that verl_ext patches.

    python verl_probe.py MODEL FOLDER

With ``VERL_USE_EXTERNAL_PLUGINS=none`` this is verl as released. Prints one line of JSON.
"""

import json
import os
import sys
import warnings
from pathlib import Path


def outcome(call, *arguments, **keywords):
    """The result, or the error's type and message."""
    try:
        return call(*arguments, **keywords)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def one_rank():
    """What torch.distributed reads: a process alone, at a free port."""
    from verl_ext.platform import ports

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(ports.free_port()), RANK="0", WORLD_SIZE="1")


def imports_vllm():
    """Whether a worker's module of verl imports vLLM, and verl's answer to who asks for a backend that is not there."""
    import verl.workers.engine_workers  # noqa: F401
    from verl.checkpoint_engine import CheckpointEngineRegistry

    return {"vllm": "vllm" in sys.modules, "asked": outcome(CheckpointEngineRegistry.get, "hccl")}


def gloo_process_group():
    import torch.distributed as dist
    from verl.utils.distributed import initialize_global_process_group_ray

    one_rank()
    problem = outcome(initialize_global_process_group_ray)
    started = dist.is_initialized()
    if started:
        dist.destroy_process_group()
    return {"problem": problem, "started": started}


def omni_processor(model):
    import verl.utils
    from verl.utils.tokenizer import hf_processor

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        processor = hf_processor(model)
    return {
        "type": type(processor).__name__,
        "positions": hasattr(processor, "get_rope_index") and hasattr(processor, "get_rope_index_kwargs"),
        "warned": any("Failed to create processor" in str(warning.message) for warning in caught),
        "exported": verl.utils.hf_processor is hf_processor,
    }


def omni_rollout(model):
    from transformers import AutoConfig, AutoProcessor
    from verl.workers.rollout import utils

    from verl_ext.models.processor import bind

    config = AutoConfig.from_pretrained(model)
    processor = bind(AutoProcessor.from_pretrained(model), config)
    audio, video = processor.audio_token_id, processor.video_token_id
    expanded = [50, audio, audio, audio, 51, video, video]
    return {
        "collapsed": utils.qwen2_5_vl_dedup_image_tokens(expanded, processor) == [50, audio, 51, video],
        "banned": len(utils.get_vision_placeholder_token_ids(processor)),
        "max_positions": outcome(utils.get_max_position_embeddings, config),
    }


def omni_boundary_tokens():
    from verl.utils.tokenizer.continuous_token_wiring import infer_continuous_token_model_family

    return str(infer_continuous_token_model_family(hf_model_type="qwen2_5_omni", has_multimodal_processor=True))


def replay_buffer_poll():
    from omegaconf import OmegaConf
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

    def poll(sampler_kwargs):
        return ReplayBuffer(
            trainer_mode="sync",
            trainer_config=OmegaConf.create({}),
            max_off_policy_threshold=None,
            max_off_policy_strategy="drop",
            sampler_kwargs=sampler_kwargs,
        ).poll_interval

    return {"default": poll(None), "asked 0.05": poll(OmegaConf.create({"poll_interval": 0.05}))}


def file_logger_appends(folder):
    from verl.utils.tracking import FileLogger

    path = Path(folder) / "metrics.jsonl"
    os.environ["VERL_FILE_LOGGER_PATH"] = str(path)
    steps = []
    for step in (1, 2):
        logger = FileLogger("project", "experiment")
        logger.log({"loss": 0.5}, step)
        logger.finish()
        steps.append([json.loads(line)["step"] for line in path.read_text().splitlines()])
    return steps


def log_probs_in_chunks():
    """Calls that normalise, and the largest error of log-probs and gradients, in fp32 and in bf16."""
    import torch
    from verl.utils.torch_functional import logprobs_from_logits

    torch.manual_seed(0)
    drawn, labels = torch.randn(1500, 40).bfloat16(), torch.randint(40, (1500,))
    calls = []

    class Count(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            calls.append(getattr(function, "__name__", "") in ("logsumexp", "log_softmax"))
            return function(*args, **(kwargs or {}))

    exact = drawn.float().requires_grad_()
    expected = torch.log_softmax(exact, -1).gather(-1, labels[:, None])[:, 0]
    expected.sum().backward()
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        logits = drawn.to(dtype).requires_grad_()
        calls.clear()
        with Count():
            log_probs = logprobs_from_logits(logits, labels)
        log_probs.sum().backward()
        found[str(dtype).removeprefix("torch.")] = {
            "calls": sum(calls),
            "error": (log_probs - expected).abs().max().item(),
            "gradient_error": (logits.grad - exact.grad).abs().max().item(),
        }
    return found


def positions_of_equal_lengths():
    """Rows of positions as a worker reads them: of two batches, as TransferQueue builds them, through a pickle."""
    import pickle

    import torch
    from verl.utils import tensordict_utils as tu
    from verl.workers.engine import base

    def rows(lengths):
        ids = [torch.arange(length) for length in lengths]
        positions = [torch.arange(4 * length).view(4, length) for length in lengths]
        fields = {"input_ids": ids, "position_ids": positions}
        jagged = {name: torch.nested.as_nested_tensor(row, layout=torch.jagged) for name, row in fields.items()}
        batch = pickle.loads(pickle.dumps(tu.get_tensordict(jagged).consolidate()))
        base.maybe_fix_3d_position_ids(batch)
        chosen = tu.index_select_tensor_dict(batch, [1, 0])
        return [row.tolist() for row in chosen["position_ids"].unbind()] == [row.tolist() for row in positions[::-1]]

    return {"unequal": rows([5, 7]), "equal": outcome(rows, [6, 6]), "of 8": outcome(rows, [8, 8])}


def saved_weights_are_copies():
    """Save, train on, compare; then restore."""
    import torch
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard
    from verl.utils import fsdp_utils

    one_rank()
    dist.init_process_group("gloo")
    model = torch.nn.Linear(4, 4, bias=False)
    fully_shard(model, mesh=dist.init_device_mesh("cpu", (1,)))
    before = model.weight.full_tensor().clone()
    saved, spec = fsdp_utils.fsdp2_sharded_save_to_cpu(model)
    with torch.no_grad():
        model.weight.add_(1.0)
    kept = torch.equal(saved["weight"][0], before)
    fsdp_utils.fsdp2_sharded_load_from_cpu(model, saved, spec)
    restored = torch.equal(model.weight.full_tensor(), before)
    dist.destroy_process_group()
    return {"kept": kept, "restored": restored}


def separate_async_log():
    from verl.trainer.ppo.v1 import trainer_separate_async

    return outcome(trainer_separate_async.logger.info, "as verl calls it", flush=True)


def workers_port():
    """Of two groups of workers that want a place to meet."""
    import ray
    from ray.util.placement_group import placement_group
    from verl.single_controller.ray import base

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        place = placement_group([{"CPU": 1}])
        ray.get(place.ready())
        groups = [object.__new__(base.RayWorkerGroup) for _ in range(2)]
        for group in groups:
            group._master_addr = group._master_port = None
            group._get_master_addr_port(place)
        return [int(group._master_port) for group in groups]
    finally:
        ray.shutdown()


def weight_socket():
    """Names of the sockets of two runs on one machine, each with a Ray cluster of its own."""
    import os
    from types import SimpleNamespace

    import ray
    from verl.workers.config import RolloutConfig
    from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

    os.environ |= {"RANK": "0", "RAY_LOCAL_WORLD_SIZE": "1"}
    right, names = ray.get_runtime_context, []
    for port in (6379, 6380):
        context = SimpleNamespace(gcs_address=f"127.0.0.1:{port}", get_job_id=lambda: "01000000")
        ray.get_runtime_context = lambda context=context: context
        names.append(ServerAdapter(RolloutConfig(name="vllm"), None, None).zmq_handle)
    ray.get_runtime_context = right
    return names


def main() -> None:
    model, folder = sys.argv[1:]
    import verl  # noqa: F401  loads the plugin, or not

    patched = "verl_ext.plugin" in sys.modules
    if not patched:
        import verl_ext.platform.cpu  # noqa: F401  the platform alone, through verl's registry
    print(
        json.dumps(
            {
                "patched": patched,
                "imports vllm": imports_vllm(),  # first: others import it
                "gloo process group": gloo_process_group(),
                "omni processor": omni_processor(model),
                "omni rollout": omni_rollout(model),
                "omni boundary tokens": omni_boundary_tokens(),
                "replay buffer poll": replay_buffer_poll(),
                "file logger appends": file_logger_appends(folder),
                "log-probs in chunks": log_probs_in_chunks(),
                "positions of equal lengths": positions_of_equal_lengths(),
                "saved weights are copies": saved_weights_are_copies(),
                "separate-async log": separate_async_log(),
                "weight socket": weight_socket(),
                "workers' port": workers_port(),
            }
        )
    )


if __name__ == "__main__":
    main()
