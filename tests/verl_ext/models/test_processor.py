"""Qwen2.5-Omni's processor for verl: collapsing expanded prompts, positions, the ids that stand for media."""

import pickle
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omni_cases import encoder, messages

from verl_ext.models.processor import MEDIA_TOKENS, collapse_media, is_omni, media_token_ids
from verl_ext.models.rope import OmniRope, position_ids, rope_kwargs

FAKE = SimpleNamespace(**{f"{name}_token_id": 900 + place for place, name in enumerate(MEDIA_TOKENS)})
IMAGE, VIDEO, AUDIO, VISION, END_VISION, SOUND, END_SOUND = media_token_ids(FAKE)

words = st.lists(st.integers(0, 899), max_size=5)
lengths = st.integers(1, 9)


@st.composite
def prompts(draw):
    """(collapsed, expanded) ids of a prompt with words and media items in any order."""
    collapsed, expanded = draw(words), []
    expanded += collapsed
    for kind in draw(st.lists(st.sampled_from(["image", "video", "audio", "woven"]), max_size=4)):
        if kind == "audio":
            collapsed += [SOUND, AUDIO, END_SOUND]
            expanded += [SOUND, *[AUDIO] * draw(lengths), END_SOUND]
        elif kind == "woven":
            collapsed += [VISION, VIDEO, END_VISION]
            turns = [token for _ in range(draw(lengths)) for token in [VIDEO] * draw(lengths) + [AUDIO] * draw(lengths)]
            expanded += [VISION, SOUND, *turns, END_SOUND, END_VISION]
        else:
            token = IMAGE if kind == "image" else VIDEO
            collapsed += [VISION, token, END_VISION]
            expanded += [VISION, *[token] * draw(lengths), END_VISION]
        more = draw(words)
        collapsed += more
        expanded += more
    return collapsed, expanded


@given(prompts())
def test_collapsing_undoes_the_expansion(pair):
    collapsed, expanded = pair
    assert collapse_media(expanded, FAKE) == collapsed


@given(prompts())
def test_collapsing_what_is_collapsed_changes_nothing(pair):
    assert collapse_media(pair[0], FAKE) == pair[0]


@given(words)
def test_text_is_left_alone(ids):
    assert collapse_media(ids, FAKE) == ids


@given(prompts())
def test_collapsing_does_not_change_its_argument(pair):
    before = list(pair[1])
    collapse_media(pair[1], FAKE)
    assert pair[1] == before


def test_an_interleaved_block_that_does_not_close_is_an_error():
    with pytest.raises(ValueError, match="token 1"):
        collapse_media([5, VISION, SOUND, VIDEO, AUDIO, END_SOUND, 7], FAKE)
    with pytest.raises(ValueError, match="token 1"):
        collapse_media([5, VISION, SOUND, VIDEO, AUDIO], FAKE)


# -- with the real processor -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["separate", "interleaved"])
def encoded(request, processor, long_row):
    woven = request.param == "interleaved"
    return encoder(processor, woven, max_frames=12, max_seconds=8.0)(messages(long_row, woven))


def test_a_real_prompt_collapses_to_one_placeholder_a_clip(encoded, processor):
    ids = collapse_media(encoded.prompt_ids, processor)
    text = processor.tokenizer.decode(ids)
    assert text.count("<|vision_bos|><|VIDEO|><|vision_eos|>") == 1
    assert text.count("<|AUDIO|>") == (not encoded.processor_kwargs["use_audio_in_video"])
    assert len(ids) < len(encoded.prompt_ids)


def test_seven_distinct_ids_stand_for_media(processor):
    ids = media_token_ids(processor)
    assert len(set(ids)) == 7
    assert processor.tokenizer.unk_token_id not in ids
    assert processor.tokenizer.decode([ids[2]]) == "<|AUDIO|>"


def test_only_omnis_processor_is_omni(processor):
    assert is_omni(processor)
    assert not is_omni(processor.tokenizer)
    assert not is_omni(None)


def test_positions_equal_those_of_the_model(encoded, processor, policy):
    """Borrowed without weights, the function gives what the Thinker computes for itself."""
    ids = torch.tensor(encoded.prompt_ids)
    ours = position_ids(processor.rope, ids, encoded.inputs)
    theirs, _ = policy.thinker.get_rope_index(
        ids[None],
        None,
        encoded.inputs["video_grid_thw"],
        torch.ones_like(ids)[None],
        encoded.processor_kwargs["use_audio_in_video"],
        encoded.inputs["feature_attention_mask"].sum(-1),
        encoded.inputs["video_second_per_grid"],
    )
    assert torch.equal(ours[1:], theirs[:, 0].long())
    assert torch.equal(ours[0], torch.arange(len(ids)))


def test_positions_equal_those_that_verls_agent_loop_computes(encoded, processor):
    from verl.experimental.agent_loop.agent_loop import AgentLoopWorker

    compute = AgentLoopWorker._compute_position_ids
    ids = torch.tensor([*encoded.prompt_ids, 50, 51, 52])
    theirs = compute(SimpleNamespace(processor=processor), ids[None], torch.ones_like(ids)[None], dict(encoded.inputs))
    assert torch.equal(theirs[0], position_ids(processor.rope, ids, encoded.inputs))


def test_a_response_continues_the_positions_one_by_one(encoded, processor):
    ids = torch.tensor([*encoded.prompt_ids, 50, 51, 52])
    positions = position_ids(processor.rope, ids, encoded.inputs)
    start = positions[1:, :-3].max()
    assert positions[1:, -3:].tolist() == [[start + 1, start + 2, start + 3]] * 3


def test_text_has_the_same_position_in_every_channel(processor):
    positions = position_ids(processor.rope, torch.arange(20, 30), {})
    assert positions.tolist() == [list(range(10))] * 4


def test_interleaving_is_seen_in_the_ids(encoded, processor):
    woven = processor.rope.has_audio_in_video(torch.tensor(encoded.prompt_ids))
    assert woven == encoded.processor_kwargs["use_audio_in_video"]


def test_the_rope_takes_a_full_config_or_the_thinkers(processor):
    assert OmniRope(processor.config).config is OmniRope(processor.config.thinker_config).config


def test_rope_arguments_follow_from_the_processors_output(encoded):
    found = rope_kwargs(encoded.inputs)
    assert found["audio_seqlens"].tolist() == [encoded.inputs["feature_attention_mask"].sum()]
    assert 600 <= found["audio_seqlens"].item() <= 610  # mel frames of 10 ms; AAC pads the track of the mp4
    assert found["second_per_grids"].tolist() == [1.0]
    assert rope_kwargs({}) == {"audio_seqlens": None, "second_per_grids": None}


def test_a_bound_processor_can_be_pickled(encoded, processor):
    """Ray and data loader workers may send it."""
    copy = pickle.loads(pickle.dumps(processor))
    ids = torch.tensor(encoded.prompt_ids)
    assert torch.equal(position_ids(copy.rope, ids, encoded.inputs), position_ids(processor.rope, ids, encoded.inputs))
    assert copy.get_rope_index.__self__ is copy.rope
