"""verl's vLLM server with the method for groups: who gets it, and what vLLM is asked for."""

import asyncio
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.seam


@pytest.fixture(scope="module", autouse=True)
def plugin():
    import verl  # noqa: F401  loads it


def replica(cls, **disaggregation):
    from verl.workers.config.rollout import RolloutConfig

    config = RolloutConfig(name="vllm", tensor_model_parallel_size=1, disaggregation=disaggregation)
    return cls(0, config, SimpleNamespace(), gpus_per_node=8)


def test_verl_makes_our_server(monkeypatch):
    """What verl makes by ``options(name=…).remote(…)``, without Ray: the actor is a made one in this process."""
    import ray
    from verl.workers.rollout.replica import get_rollout_replica_class

    from verl_ext.rollout import early
    from verl_ext.rollout.server import GroupReplica, GroupServer

    class Here:
        """A handle of an object of this process."""

        def __init__(self, cls):
            self.actor = cls()

        def __getattr__(self, name):
            return SimpleNamespace(remote=getattr(self.actor, name))

    made = {}
    monkeypatch.setattr(GroupServer, "__init__", lambda self, **arguments: made.update(arguments))
    monkeypatch.setattr(early.Early, "_actor", lambda self, _options: Here(early.holder(self.worker)))
    monkeypatch.setattr(ray, "get", lambda value: value)
    assert get_rollout_replica_class("vllm") is GroupReplica
    server = replica(GroupReplica).server_class.options(name="vllm_server_0_0", max_concurrency=9).remote(node_rank=0)
    assert type(server.actor._held) is GroupServer
    assert made == {"node_rank": 0}


def test_servers_start_early_as_verl_would_start_them(monkeypatch):
    from omegaconf import OmegaConf

    from verl_ext.rollout import early, server

    made = []
    started = early.Early(server.GroupServer)
    actor = SimpleNamespace(prepare=SimpleNamespace(remote=lambda module: None))
    monkeypatch.setattr(early.Early, "_actor", lambda self, options: made.append(options) or actor)
    monkeypatch.setattr(server, "SERVERS", started)
    for sequences in (256, 4096):
        made.clear()
        server.start_early(2, OmegaConf.create({"max_num_seqs": sequences}))
        verls = replica(server.GroupReplica)
        verls.config.max_num_seqs = sequences
        assert [options["name"] for options in made] == ["vllm_server_0_0", "vllm_server_1_0"]
        assert {options["max_concurrency"] for options in made} == {verls.max_concurrency}
        assert verls.max_concurrency >= max(1000, sequences)


@pytest.mark.parametrize("worker", ["server.GroupServer", "agent_loop.OmniAgentLoopWorker"])
def test_ray_sees_the_same_methods_through_a_holder(worker):
    """Of the same kind, and without settings of Ray's (``ray.method``), which a holder would drop."""
    import inspect
    from importlib import import_module

    import ray

    from verl_ext.rollout.early import holder

    module, name = worker.split(".")
    real = getattr(import_module(f"verl_ext.rollout.{module}"), name)

    def kinds(cls):
        methods = ray.remote(cls).__ray_metadata__.method_meta.methods
        kind = (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction)
        return {key: [one(value) for one in kind] for key, value in methods.items() if not key.startswith("__")}

    real_kinds, held_kinds = kinds(real), kinds(holder(real))
    assert len(real_kinds) > 3
    assert {name: held_kinds.get(name) for name in real_kinds} == real_kinds
    assert held_kinds.keys() - real_kinds.keys() == {"prepare", "begin"}
    for value in ray.remote(real).__ray_metadata__.method_meta.methods.values():
        assert {key for key in vars(value) if key.startswith("__ray_")} <= {"__ray_tracing_wrapped__"}


def test_disaggregated_prefill_keeps_verls_own():
    from verl.workers.rollout.replica import get_rollout_replica_class
    from verl.workers.rollout.vllm_rollout.vllm_pd_replica import vLLMPDReplica

    found = get_rollout_replica_class("vllm", disaggregation_enabled=True)
    assert found is vLLMPDReplica
    made = replica(found, enabled=True, transfer_backend="nixl").server_class.__ray_metadata__.modified_class
    assert not hasattr(made, "generate_group")


def test_a_group_is_answered_in_order():
    from verl_ext.rollout.server import GroupServer

    class Made(GroupServer):
        def __init__(self):
            self.asked, self.done = [], []

        async def generate(self, prompt_ids, sampling_params, request_id, **others):
            self.asked.append((prompt_ids, request_id, others))
            for _ in range(10 - sampling_params["seed"]):  # the later it is asked, the sooner it is done
                await asyncio.sleep(0)
            self.done.append(sampling_params["seed"])
            sampling_params.clear()  # verl's takes keys out
            return f"answer {request_id}"

    server = Made()
    sampling = [{"temperature": 1.0, "seed": seed} for seed in (1, 4, 7)]
    media = {"video_data": ["frames"], "audio_data": None, "mm_processor_kwargs": {"fps": 2.0}}
    answers = asyncio.run(server.generate_group([5, 6], sampling, "r", 3, media))
    assert server.done == [7, 4, 1]
    assert answers == ["answer r-0", "answer r-1", "answer r-2"]
    assert server.asked == [([5, 6], f"r-{place}", {"priority": 3, **media}) for place in range(3)]
    assert [one["seed"] for one in sampling] == [1, 4, 7], "the caller's are left alone"


class Engine:
    """vLLM's, as far as verl's server asks it: answers with one token, its number that of the request."""

    def __init__(self):
        self.asked = []

    async def generate(self, prompt, sampling_params, request_id, lora_request, priority):
        self.asked.append(SimpleNamespace(prompt=prompt, sampling=sampling_params, id=request_id, priority=priority))
        token = len(self.asked)
        logprobs = [{token: SimpleNamespace(logprob=-0.5 * token)}]
        answer = SimpleNamespace(token_ids=[token], logprobs=logprobs, finish_reason="stop")
        yield SimpleNamespace(outputs=[answer], num_cached_tokens=4)


def test_vllm_is_asked_for_the_ends_alone_and_not_for_text(processor):
    """Through verl's own ``generate``, up to the engine."""
    from omegaconf import OmegaConf
    from vllm.sampling_params import RequestOutputKind

    from verl_ext.rollout.server import GroupServer

    server = GroupServer.__new__(GroupServer)
    sizes = {"max_model_len": 64, "prompt_length": 48, "response_length": 16}
    server.config = OmegaConf.create(
        {**sizes, "full_determinism": False, "enable_rollout_routing_replay": False, "mtp": None}
    )
    server.model_config = SimpleNamespace(processor=processor, lora_rank=0, lora={})
    server.engine, server.replica_rank, server.global_steps = Engine(), 0, 5
    server._disaggregation_role, server._submission_paused, server._admitting = "null", False, 0
    sampling = [{"temperature": 1.0, "logprobs": True, "seed": seed} for seed in (11, 12)]
    video = [processor.vision_bos_token_id, *[processor.video_token_id] * 4, processor.vision_eos_token_id]
    answers = asyncio.run(server.generate_group([100, *video], sampling, "r", 2, {"video_data": ["frames"]}))

    assert [answer.token_ids for answer in answers] == [[1], [2]]
    assert [answer.log_probs for answer in answers] == [[-0.5], [-1.0]]
    assert all(answer.extra_fields["global_steps"] == 5 for answer in answers)
    assert [one.id for one in server.engine.asked] == ["r-0", "r-1"]
    for one, seed in zip(server.engine.asked, (11, 12), strict=True):
        assert one.sampling.output_kind is RequestOutputKind.FINAL_ONLY
        assert one.sampling.detokenize is False
        assert (one.sampling.seed, one.sampling.logprobs, one.sampling.max_tokens) == (seed, 0, 16)
        assert one.prompt["multi_modal_data"] == {"video": ["frames"]}
        assert one.prompt["prompt_token_ids"].count(processor.video_token_id) == 1
        assert one.priority == 2
    assert server._admitting == 0
