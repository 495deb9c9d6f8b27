import random

import pytest
import tiny_clips

pytestmark = pytest.mark.seam

MEDIA = {"fps": 2.0, "max_frames": 4, "min_pixels": 3136, "max_pixels": 3136, "max_seconds": 4.0}


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    return tiny_clips.write_shard(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory, shard):
    from verl_ext.models.tiny import make_tiny, read_shards

    out = tmp_path_factory.mktemp("tiny")
    _, texts, words = read_shards([shard])
    make_tiny(texts, words, out, vocab_size=600)
    return out


@pytest.fixture(scope="module")
def processor(model_folder):
    from transformers import AutoConfig, AutoProcessor

    from verl_ext.models.processor import bind

    return bind(AutoProcessor.from_pretrained(model_folder), AutoConfig.from_pretrained(model_folder))


@pytest.fixture
def make(shard, processor):
    from omegaconf import OmegaConf

    from verl_ext.data.sft_dataset import Draw, OmniSFTDataset

    class Dataset(OmniSFTDataset):
        def draw(self, row, rng):
            labels = ", ".join(row["reward_model"]["ground_truth"])
            prompt = row["prompt"][-1]["content"]
            if rng.random() < 0.5:
                return Draw(prompt, target=f"{labels}</answer>", given="<think></think><answer>")
            return Draw(prompt, target=f"<think>{row['extra_info']['reason']}</think><answer>{labels}</answer>")

    def build(files=shard, max_samples=-1, cls=Dataset, **changes):
        config = {"pad_mode": "no_padding", "draws": 40, "seed": 0, "cache_clips": 100, "max_length": 400}
        config = OmegaConf.create({**config, "media": {**MEDIA, **changes.pop("media", {})}, **changes})
        return cls(str(files), processor.tokenizer, config, processor, max_samples)

    return build


def learnt(dataset, item):
    return dataset.tokenizer.decode(item["input_ids"][item["loss_mask"] == 1])


def test_item_is_what_the_processor_and_the_model_would_make(make, processor):
    import torch

    from verl_ext.data.dataset import build_messages
    from verl_ext.data.encode import PromptEncoder
    from verl_ext.models.rope import position_ids

    dataset = make()
    for place in range(len(dataset.rows)):
        item, row = dataset[place], dataset.rows[dataset._row_index(place)]
        encoded = PromptEncoder(processor, dataset.encoder.media)(build_messages(row))
        ids = item["input_ids"]
        assert ids[: len(encoded.prompt_ids)].tolist() == encoded.prompt_ids
        assert item["multi_modal_inputs"].keys() == encoded.inputs.keys()
        for name, tensor in encoded.inputs.items():
            assert torch.equal(item["multi_modal_inputs"][name], tensor), name
        assert torch.equal(item["position_ids"], position_ids(processor.rope, ids, encoded.inputs))
        assert item["position_ids"].shape == (4, len(ids))


def test_loss_is_on_the_target_and_the_end_of_turn_alone(make):
    dataset = make()
    texts = [dataset.tokenizer.decode(dataset[i]["input_ids"]) for i in range(20)]
    replies = [learnt(dataset, dataset[i]) for i in range(20)]
    for text, reply in zip(texts, replies, strict=True):
        assert text.endswith(reply)
        assert reply.endswith("</answer><|im_end|>")
        before = text.removesuffix(reply)
        assert before.endswith(("<|im_start|>assistant\n", "<|im_start|>assistant\n<think></think><answer>"))
        assert reply.startswith("<think>") != before.endswith("<answer>")


def test_draws_depend_on_seed_and_index_alone(make):
    def texts(dataset, items):
        return [dataset.tokenizer.decode(dataset[i]["input_ids"]) for i in items]

    first = texts(make(), range(12))
    assert texts(make(), range(12)) == first
    shuffled = random.Random(0).sample(range(12), 12)
    assert texts(make(), shuffled) == [first[i] for i in shuffled]
    assert texts(make(seed=1), range(12)) != first


def test_every_pass_meets_every_row_once_in_an_order_of_its_own(make):
    dataset = make()
    orders = [[dataset._row_index(4 * turn + place) for place in range(4)] for turn in range(6)]
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    assert len({tuple(order) for order in orders}) > 1


def test_length_is_the_number_of_draws_or_of_rows(make):
    assert len(make()) == 40
    assert len(make(draws=None)) == 4
    assert len(make(draws=None, max_samples=3)) == 3


def test_a_clip_is_decoded_once(make, monkeypatch):
    for cache_clips, expected in ((100, 4), (2, 2 + 2 * 3), (0, 12)):
        dataset = make(cache_clips=cache_clips)
        encode, calls = dataset.encoder, []
        monkeypatch.setattr(dataset, "encoder", lambda m, encode=encode, calls=calls: calls.append(1) or encode(m))
        for i in range(12):
            dataset[i]
        assert len(calls) == expected


def test_clips_that_are_kept_are_bounded_in_bytes(make):
    dataset = make()
    dataset[0]
    assert 0 < dataset._bytes == sum(tensor.nbytes for tensor in next(iter(dataset._clips.values())).inputs.values())
    bounded = make(cache_gb=2.5 * dataset._bytes / 1e9)
    for i in range(12):
        bounded[i]
    assert 1 <= len(bounded._clips) < 4
    assert bounded._bytes <= 2.5 * dataset._bytes


def test_what_is_sent_to_another_process_is_not_what_the_next_draw_reads(make):
    """A loader's worker replaces the memory of the tensors that it sends, in another thread."""
    dataset = make()
    dataset[0]
    (clip,) = dataset._clips.values()
    before = {name: tensor.clone() for name, tensor in clip.inputs.items()}
    sent = dataset[0]["multi_modal_inputs"]
    assert sent.keys() == before.keys()
    for name, tensor in sent.items():
        assert tensor.data_ptr() != clip.inputs[name].data_ptr(), name
        tensor.zero_()
        assert clip.inputs[name].equal(before[name]), name


def test_audio_in_video_is_spliced_whole(make, tmp_path, processor):
    import av
    import numpy as np
    import pyarrow.parquet as pq

    from verl_ext.data.dataset import build_messages
    from verl_ext.data.encode import PromptEncoder

    shard = tiny_clips.write_shard(tmp_path, (2.0,))
    with av.open(str(tmp_path / "both.mp4"), "w") as container:
        video = container.add_stream("mpeg4", rate=4)
        video.width = video.height = 56
        video.pix_fmt = "yuv420p"
        sound = container.add_stream("aac", rate=16000, layout="mono")
        for _ in range(8):
            for packet in video.encode(av.VideoFrame.from_ndarray(np.zeros((56, 56, 3), np.uint8), format="rgb24")):
                container.mux(packet)
        for packet in video.encode():
            container.mux(packet)
        tone = np.sin(np.arange(32000) / 10, dtype=np.float32)[None]
        frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        frame.sample_rate = 16000
        for packet in [*sound.encode(frame), *sound.encode()]:
            container.mux(packet)
    table = pq.read_table(shard).to_pylist()
    table[0] |= {"videos": [str(tmp_path / "both.mp4")], "audios": []}
    table[0]["prompt"][0]["content"] = "<video>What?"
    import pyarrow as pa

    schema = pq.read_schema(shard)
    pq.write_table(pa.Table.from_pylist(table, schema=schema), shard)
    dataset = make(shard, media={"use_audio_in_video": True})
    encoded = PromptEncoder(processor, dataset.encoder.media)(build_messages(dataset.rows[0]))
    ids = dataset[0]["input_ids"]
    assert ids[: len(encoded.prompt_ids)].tolist() == encoded.prompt_ids
    assert processor.rope.has_audio_in_video(ids)
    assert "input_features" in dataset[0]["multi_modal_inputs"]


def test_too_long_an_example_names_the_row_and_the_key(make):
    from verl_ext.data.dataset import ShardError

    with pytest.raises(ShardError, match=r"row \d \(clip\d\): \d+ tokens .* over data.max_length=50"):
        make(max_length=50)[0]


def test_what_cannot_be_used_is_refused_at_once(make, shard, processor, tmp_path):
    from omegaconf import OmegaConf

    from verl_ext.data.dataset import ShardError
    from verl_ext.data.sft_dataset import OmniSFTDataset

    with pytest.raises(ShardError, match="shard not found"):
        make(tmp_path / "none.parquet")
    with pytest.raises(ShardError, match="no_padding"):
        make(pad_mode="right")
    with pytest.raises(ShardError, match=r"the model folder \(model\.path\) does not contain it"):
        OmniSFTDataset(str(shard), processor.tokenizer, OmegaConf.create({}), None)


def test_a_prompt_with_other_media_than_its_row_is_an_error(processor):
    from verl_ext.data.sft_dataset import splice_media

    with pytest.raises(ValueError, match="0 media items, but the row has 1"):
        splice_media([20, 21], [[9, 13, 10]], processor)


def test_splice_puts_blocks_in_order(processor):
    from verl_ext.data.sft_dataset import media_blocks, splice_media

    vision, audio = [9, 13, 10], [4, 3, 5]
    prompt = [20, *vision, 21, *audio, 22]
    blocks = [[9, 13, 13, 10], [4, 3, 3, 3, 5]]
    assert media_blocks(prompt, processor) == [(1, 4), (5, 8)]
    assert splice_media(prompt, blocks, processor) == [20, *blocks[0], 21, *blocks[1], 22]
    assert splice_media([20, 21], [], processor) == [20, 21]
    assert media_blocks([9, 4, 13, 3, 5, 10], processor) == [(0, 6)], "audio in video is one block"


def test_the_actor_accepts_a_collated_batch_of_different_lengths_and_learns(make, model_folder):
    import torch
    from verl.utils import tensordict_utils as tu
    from verl.utils.dataset.dataset_utils import SFTTensorCollator
    from verl.utils.model import extract_multi_modal_inputs

    from verl_ext.models.model import Qwen2_5OmniThinkerPolicy

    dataset = make()
    batch = SFTTensorCollator("no_padding")([dataset[i] for i in range(8)])
    batch = tu.get_tensordict(tensor_dict=batch, non_tensor_dict={})
    media = extract_multi_modal_inputs(batch["multi_modal_inputs"])
    assert media["input_features"].shape[0] == 8
    assert media["input_features"].shape[-1] == 250, "padded to the longest clip of the batch"
    lengths = batch["input_ids"].offsets().diff()
    longest = int(lengths.max())
    assert len(lengths.unique()) > 1
    padded = {
        "input_ids": batch["input_ids"].to_padded_tensor(0),
        "position_ids": torch.nested.to_padded_tensor(batch["position_ids"], 0, (8, 4, longest)).transpose(0, 1),
        "attention_mask": torch.arange(longest).expand(8, -1) < lengths[:, None],
    }
    mask = batch["loss_mask"].to_padded_tensor(0)[:, 1:]
    torch.manual_seed(0)
    model = Qwen2_5OmniThinkerPolicy.from_pretrained(model_folder).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        logits = model(**padded, **media, use_cache=False).logits[:, :-1]
        log_probs = logits.log_softmax(-1).gather(-1, padded["input_ids"][:, 1:, None])[..., 0]
        loss = -(log_probs * mask).sum() / mask.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    named = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert named["thinker.visual.patch_embed.proj.weight"].abs().sum() > 0
    assert named["thinker.audio_tower.conv1.weight"].abs().sum() > 0
