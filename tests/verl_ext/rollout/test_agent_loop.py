"""The agent loop with a made server: one encoding a prompt, the prefix belongs to the prompt, what the actor gets."""

import asyncio
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from omni_cases import MEDIA, messages


class Server:
    """Remembers what it was asked and answers with ten tokens."""

    def __init__(self):
        self.asked = []

    async def generate(self, **request):
        self.asked.append(request)
        tokens = list(range(100, 110))
        return SimpleNamespace(
            token_ids=tokens, log_probs=[-0.5] * len(tokens), num_preempted=None, extra_fields={"global_steps": 3}
        )


@pytest.fixture
def loop(processor, monkeypatch):
    """A function that makes a loop; loops of one test share their encoder, as those of one worker do."""
    from verl_ext.rollout.agent_loop import OmniAgentLoop

    monkeypatch.setattr(OmniAgentLoop, "_encoder", None)
    server = Server()

    def make(prompt_length=192, response_length=8, seed=0, seeded=True):
        made = OmniAgentLoop.__new__(OmniAgentLoop)
        made.server_manager, made.processor, made.tokenizer = server, processor, processor.tokenizer
        made.apply_chat_template_kwargs = {}
        made.rollout_config = SimpleNamespace(prompt_length=prompt_length, response_length=response_length, seed=seed)
        media = {**MEDIA, "use_audio_in_video": False}
        made.data_config = OmegaConf.create({"media": media, "prompt_cache_size": 8, "seeded_responses": seeded})
        return made

    return make


def row(rows, index=0, **more):
    return {"raw_prompt": messages(rows[index]), "extra_info": rows[index]["extra_info"], **more}


def run(loop, **arguments):
    return asyncio.run(loop.run({"temperature": 1.0}, **arguments))


def test_a_response_comes_with_what_the_actor_needs(loop, rows, processor):
    output = run(loop(), **row(rows))
    assert output.response_ids == list(range(100, 108)), "cut to the response length"
    assert output.response_mask == [1] * 8
    assert output.response_logprobs == [-0.5] * 8
    assert output.prompt_ids.count(processor.audio_token_id) == 50
    assert output.num_turns == 2
    assert output.metrics.num_preempted == -1
    assert output.extra_fields["global_steps"] == 3


def test_the_server_gets_raw_media_and_the_processors_arguments(loop, rows):
    made = loop()
    run(made, **row(rows))
    asked = made.server_manager.asked[0]
    assert asked["video_data"][0].shape == (4, 3, 56, 56)
    assert asked["audio_data"][0].shape == (32_000,)
    assert asked["mm_processor_kwargs"]["fps"] == 2.0
    assert asked["mm_processor_kwargs"]["max_pixels"] == 3136


def test_the_responses_of_a_group_share_one_encoding(loop, rows):
    async def group():
        return await asyncio.gather(*(loop().run({}, **row(rows)) for _ in range(4)))

    outputs = asyncio.run(group())
    pixels = [output.multi_modal_data["actor_inputs"]["pixel_values_videos"] for output in outputs]
    assert all(tensor is pixels[0] for tensor in pixels)


def test_the_worker_hands_the_loops_tensors_to_the_actor(loop, rows):
    from verl_ext.rollout.agent_loop import OmniAgentLoopWorker

    output = run(loop(), **row(rows))
    worker = OmniAgentLoopWorker.__new__(OmniAgentLoopWorker)
    inputs = worker._compute_multi_modal_inputs(output, torch.tensor(output.prompt_ids))
    kept = output.multi_modal_data["actor_inputs"]
    assert set(inputs) == set(kept)
    assert inputs is not kept, "verl takes keys out of it; the cached encoding must stay whole"


def test_each_response_has_a_seed_of_its_own_and_the_same_one_again(loop, rows):
    def seed(row_index=0, run_seed=0, **place):
        made = loop(seed=run_seed)
        run(made, **row(rows, row_index), **{"global_steps": 3, "session_id": 0} | place)
        return made.server_manager.asked[-1]["sampling_params"]["seed"]

    first = seed()
    assert first == seed(uid="another") == 1573802692  # in every process: a run that is resumed asks for it again
    others = [seed(1), seed(run_seed=1), seed(global_steps=4), seed(session_id=1), seed(response_prefix="<think>")]
    assert len({first, *others}) == 6
    assert all(0 <= value < 2**32 for value in (first, *others))


def test_without_seeds_none_is_sent(loop, rows):
    made = loop(seeded=False)
    run(made, **row(rows))
    assert "seed" not in made.server_manager.asked[-1]["sampling_params"]


def test_greedy_answers_need_no_seed(loop, rows):
    made = loop()
    asyncio.run(made.run({"temperature": 0.0}, **row(rows)))
    assert "seed" not in made.server_manager.asked[0]["sampling_params"]


def test_the_prefix_belongs_to_the_prompt(loop, rows, processor):
    prefix = "<think></think><answer>"
    plain, fast = run(loop(), **row(rows)), run(loop(), **row(rows, response_prefix=prefix))
    assert fast.prompt_ids == plain.prompt_ids + processor.tokenizer.encode(prefix)
    assert len(fast.response_mask) == len(plain.response_mask)


def test_too_long_a_prompt_names_clip_length_and_keys(loop, rows):
    from verl_ext.rollout.agent_loop import PromptTooLongError

    with pytest.raises(PromptTooLongError) as caught:
        run(loop(prompt_length=90), **row(rows))
    assert rows[0]["extra_info"]["name"] in str(caught.value)
    assert "data.max_prompt_length=90" in str(caught.value)
    assert "data.media.fps" in str(caught.value)


def test_a_bad_clip_is_named(loop, rows):
    from verl_ext.data.media import MediaError

    broken = {**rows[0], "videos": ["/nowhere.mp4"]}
    with pytest.raises(MediaError, match=r"/nowhere\.mp4"):
        run(loop(), raw_prompt=messages(broken), extra_info={})


def test_a_text_prompt_needs_no_media(loop, rows):
    made = loop()
    output = run(made, raw_prompt=[{"role": "user", "content": "Hello"}], extra_info={})
    assert made.server_manager.asked[0]["video_data"] is None
    assert made.server_manager.asked[0]["audio_data"] is None
    assert output.multi_modal_data["actor_inputs"] == {}
