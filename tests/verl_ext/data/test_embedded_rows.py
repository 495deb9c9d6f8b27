"""Embedded clips through what reads rows: verl's RL dataset and data loader, SFT, the agent loop's encoding."""

import pickle

import embedded_shard
import pytest
import tiny_clips
import torch
from omegaconf import OmegaConf
from omni_cases import MEDIA, encoder, messages

from verl_ext.data.dataset import OmniDataset, build_messages, load_shard

pytestmark = pytest.mark.seam


@pytest.fixture(scope="module")
def shard(rows, tmp_path_factory):
    return embedded_shard.write_embedded(rows[:5], tmp_path_factory.mktemp("embedded") / "rl.parquet")


@pytest.fixture(scope="module")
def dataset(shard, processor):
    config = OmegaConf.create(
        {
            "train_files": [str(shard)],
            "val_files": ["val.parquet"],
            "media_root": None,
            "media": {**MEDIA, "use_audio_in_video": False},
            "response_prefixes": {"train": {"slow": ""}},
        }
    )
    return OmniDataset([str(shard)], processor.tokenizer, config, processor)


def same(one, other):
    assert one.prompt_ids == other.prompt_ids
    assert all(torch.equal(one.inputs[name], other.inputs[name]) for name in one.inputs)


def test_a_row_is_light_and_encodes_as_its_files_do(dataset, processor, rows):
    for at in (4, 0):
        item = dataset[at]
        assert len(pickle.dumps(item["raw_prompt"])) < 2_000, "it travels through Ray and TransferQueue"
        same(encoder(processor)(item["raw_prompt"]), encoder(processor)(messages(rows[at])))


def test_the_dataset_is_pickled_and_read_again(dataset):
    copy = pickle.loads(pickle.dumps(dataset))
    copy.resume_dataset_state()
    assert copy[3]["raw_prompt"] == dataset[3]["raw_prompt"]


@pytest.mark.parametrize("workers", [0, 2])
def test_verls_data_loader_hands_rows_on(dataset, workers):
    from torchdata.stateful_dataloader import StatefulDataLoader
    from verl.utils.dataset.rl_dataset import collate_fn

    loader = StatefulDataLoader(dataset, batch_size=2, num_workers=workers, collate_fn=collate_fn)
    prompts = [prompt for batch in loader for prompt in batch["raw_prompt"]]
    assert [list(prompt) for prompt in prompts] == [dataset[at]["raw_prompt"] for at in range(5)]


def test_transfer_queues_columns_hold_the_prompts(dataset):
    """TransferQueue stores what verl makes of a batch: a TensorDict with object columns."""
    from verl.utils import tensordict_utils as tu
    from verl.utils.dataset.rl_dataset import collate_fn

    batch = collate_fn([dataset[0], dataset[1]])
    stored = tu.get_tensordict({"raw_prompt": list(batch["raw_prompt"])})
    assert list(tu.get(stored, "raw_prompt"))[1] == dataset[1]["raw_prompt"]


@pytest.mark.parametrize("workers", [0, 2])
def test_sft_items_are_those_of_the_files(processor, tmp_path, workers):
    from verl_ext.data.sft_dataset import Draw, OmniSFTDataset

    class Dataset(OmniSFTDataset):
        def draw(self, row, rng):
            return Draw(row["prompt"][-1]["content"], target="yes")

    def make(file):
        config = {"pad_mode": "no_padding", "draws": 6, "seed": 0, "cache_clips": 2, "max_length": 400}
        config = OmegaConf.create({**config, "media": MEDIA, "media_root": None})
        return Dataset(str(file), processor.tokenizer, config, processor)

    by_path = tiny_clips.write_shard(tmp_path)
    inside = embedded_shard.write_embedded(load_shard(by_path).to_list(), tmp_path / "inside.parquet")
    wanted, found = make(by_path), make(inside)
    loader = torch.utils.data.DataLoader(found, batch_size=None, num_workers=workers)
    for at, item in enumerate(loader):
        assert torch.equal(item["input_ids"], wanted[at]["input_ids"])
        assert all(
            torch.equal(tensor, wanted[at]["multi_modal_inputs"][name])
            for name, tensor in item["multi_modal_inputs"].items()
        )


def test_evaluation_loads_such_rows(shard, rows, processor):
    from recipe.mer_r1.eval.clip_sets import load_clip_sets

    loaded = load_clip_sets([shard], None, False, 2)[0].rows
    same(encoder(processor)(build_messages(loaded[1])), encoder(processor)(messages(rows[1])))
