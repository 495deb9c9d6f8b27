"""The RL dataset: bad shards are named with file, row, key and the way out; a row has one item a form."""

import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from omni_cases import MEDIA

from verl_ext.data.dataset import COLUMNS, OmniDataset, ShardError, build_messages, check_rows, load_clips, load_shard
from verl_ext.data.shard_media import SILENT

FORMS = {"train": {"slow": ""}, "val": {"slow": "", "fast": "<think></think><answer>"}}


@pytest.fixture
def shard(rows, tmp_path):
    """A function that writes the first four rows, changed or not, and returns the file."""

    def write(change=lambda index, row: None, columns=COLUMNS):
        changed = [{**row, "prompt": [dict(message) for message in row["prompt"]]} for row in rows[:4]]
        for index, row in enumerate(changed):
            change(index, row)
        path = tmp_path / "shard.parquet"
        pq.write_table(pa.Table.from_pylist([{name: row[name] for name in columns} for row in changed]), path)
        return path

    return write


def configuration(train, val="val.parquet", forms=FORMS, **media):
    return OmegaConf.create(
        {
            "train_files": [str(train)],
            "val_files": [str(val)],
            "media": {**MEDIA, "use_audio_in_video": False, **media},
            "response_prefixes": forms,
            "max_prompt_length": 64,
        }
    )


def complaint(call, *arguments, **keywords):
    with pytest.raises(ShardError) as caught:
        call(*arguments, **keywords)
    return str(caught.value)


# -- shards ------------------------------------------------------------------------------------------------------------


def test_a_good_shard_loads_and_checks(shard):
    path = shard()
    loaded = load_shard(path)
    assert len(loaded) == 4
    check_rows(loaded, path)


def test_a_missing_shard_is_named_with_the_way_out(tmp_path):
    message = complaint(load_shard, tmp_path / "nowhere.parquet")
    assert f"{tmp_path}/nowhere.parquet" in message
    assert "python -m data_prep" in message
    assert "data.train_files" in message


@pytest.mark.parametrize("content", [b"", b"PAR1", b"name,openset\n" * 50])
def test_what_is_no_parquet_is_named(content, tmp_path):
    path = tmp_path / "shard.parquet"
    path.write_bytes(content)
    message = complaint(load_shard, path)
    assert str(path) in message
    assert "parquet" in message


@pytest.mark.parametrize("column", COLUMNS)
def test_a_missing_column_is_named(column, shard):
    path = shard(columns=[name for name in COLUMNS if name != column])
    message = complaint(load_shard, path)
    assert str(path) in message
    assert f"no column ['{column}']" in message


def test_an_empty_shard_is_named(shard, tmp_path):
    table = pq.read_table(shard())
    pq.write_table(table.slice(0, 0), tmp_path / "empty.parquet")
    assert "no rows" in complaint(load_shard, tmp_path / "empty.parquet")


def test_sound_from_the_video_is_a_matter_of_configuration(shard):
    path = shard()
    apart, inside = load_clips(path), load_clips(path, use_audio_in_video=True)
    assert len(inside) == len(apart)
    assert inside.features == apart.features
    for one, other in zip(apart, inside, strict=True):
        assert one["prompt"][0]["content"].startswith("<video><audio>Subtitle: ")
        assert other["prompt"][0]["content"] == one["prompt"][0]["content"].replace("<audio>", "")
        assert other["videos"] == one["videos"]
        assert (len(one["audios"]), other["audios"]) == (1, [])
        assert other["reward_model"] == one["reward_model"]


def test_rows_that_are_silent_on_purpose_are_not_heard_from_their_video(shard):
    path = shard()
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), SILENT: b"yes"}), path)
    assert len(load_clips(path)) == table.num_rows
    with pytest.raises(ShardError, match=r"without sound on purpose.*use_audio_in_video=false"):
        load_clips(path, use_audio_in_video=True)


# -- rows --------------------------------------------------------------------------------------------------------------


def checked(path, **keywords):
    message = complaint(check_rows, load_shard(path), path, **keywords)
    assert str(path) in message
    assert "data_prep" in message, "the way out is missing"
    return message


@pytest.mark.parametrize(("column", "placeholder"), [("videos", "<video>"), ("audios", "<audio>")])
def test_a_missing_media_file_is_named_with_its_row_and_key(column, placeholder, shard):
    def change(index, row):
        if index == 2:
            row[column] = ["/nowhere/clip.bin"]

    assert f"row 2: `{column}` file not found: /nowhere/clip.bin" in checked(shard(change))


@pytest.mark.parametrize(("column", "placeholder"), [("videos", "<video>"), ("audios", "<audio>")])
def test_placeholders_and_paths_must_be_as_many(column, placeholder, shard):
    def fewer_paths(index, row):
        if index == 1:
            row[column] = []

    assert f"row 1: 1 {placeholder} in the prompt, but 0 paths in `{column}`" in checked(shard(fewer_paths))

    def fewer_placeholders(index, row):
        if index == 3:
            row["prompt"][0]["content"] = row["prompt"][0]["content"].replace(placeholder, "")

    assert f"row 3: 0 {placeholder} in the prompt, but 1 paths in `{column}`" in checked(shard(fewer_placeholders))


def test_audio_of_its_own_beside_audio_in_video_is_refused(shard):
    message = checked(shard(), use_audio_in_video=True)
    assert "data.media.use_audio_in_video" in message
    assert "4 problems in 4 rows" in message


def test_at_most_five_rows_are_listed_and_all_are_counted(shard):
    message = checked(shard(lambda index, row: row.update(videos=["/a"], audios=["/b"])))
    assert "8 problems in 4 rows" in message
    assert message.count("file not found") == 5


@pytest.mark.parametrize("prompt", ["What does the person feel?", [{"role": "user"}], None])
def test_a_prompt_that_is_no_chat_is_named(prompt, shard):
    path = shard(lambda index, row: row.update(prompt=prompt, videos=[], audios=[]))
    message = checked(path)
    assert "row 0" in message
    assert "`prompt`" in message


# -- the dataset -------------------------------------------------------------------------------------------------------


def test_the_training_split_has_a_row_an_item(shard, processor):
    path = shard()
    dataset = OmniDataset([str(path)], processor.tokenizer, configuration(path), processor)
    assert len(dataset) == 4
    item = dataset[0]
    assert item["response_prefix"] == ""
    assert item["data_source"] == "mer_micro"
    assert [part["type"] for part in item["raw_prompt"][0]["content"]] == ["video", "audio", "text"]
    assert item["reward_model"]["ground_truth"]


def test_the_validation_split_has_an_item_a_form_slowest_changing(shard, processor):
    path = shard()
    dataset = OmniDataset([str(path)], processor.tokenizer, configuration("train.parquet", path), processor)
    assert len(dataset) == 8
    sources = [dataset[index]["data_source"] for index in range(8)]
    assert sources == ["mer_micro/slow"] * 4 + ["mer_micro/fast"] * 4
    assert dataset[5]["response_prefix"] == "<think></think><answer>"
    assert dataset[5]["raw_prompt"] == dataset[1]["raw_prompt"]


def test_the_first_rows_are_kept_where_a_number_is_asked_for(shard, processor):
    path = shard()
    dataset = OmniDataset([str(path)], processor.tokenizer, configuration("x", path), processor, max_samples=3)
    assert len(dataset) == 6
    assert dataset[3]["extra_info"]["name"] == dataset[0]["extra_info"]["name"]


def test_several_shards_follow_each_other(shard, processor):
    path = shard()
    config = configuration(path)
    config.train_files = [str(path), str(path)]
    assert len(OmniDataset(config.train_files, processor.tokenizer, config, processor)) == 8


def test_no_form_at_all_is_an_error_that_names_the_key(shard, processor):
    path = shard()
    config = configuration(path, forms={"train": {}, "val": {"slow": ""}})
    message = complaint(OmniDataset, [str(path)], processor.tokenizer, config, processor)
    assert "data.response_prefixes.train" in message


def test_the_dataset_refuses_a_bad_shard(shard, processor):
    path = shard(lambda index, row: row.update(audios=["/nowhere.wav"]))
    assert "/nowhere.wav" in complaint(OmniDataset, [str(path)], processor.tokenizer, configuration(path), processor)
    missing = str(path.with_name("missing.parquet"))
    assert missing in complaint(OmniDataset, [missing], processor.tokenizer, configuration(missing), processor)


def test_a_saved_dataset_reads_its_rows_again(shard, processor):
    """What verl does with the data loader's state at a resume."""
    path = shard()
    dataset = OmniDataset([str(path)], processor.tokenizer, configuration("x", path), processor)
    copy = pickle.loads(pickle.dumps(dataset))
    copy.resume_dataset_state()
    assert len(copy) == 8
    assert copy[7]["data_source"] == dataset[7]["data_source"]


def test_messages_hold_the_paths_in_the_order_of_the_placeholders(rows):
    built = build_messages(rows[0])
    assert built[0]["content"][0] == {"type": "video", "video": rows[0]["videos"][0]}
    assert built[0]["content"][1] == {"type": "audio", "audio": rows[0]["audios"][0]}
    assert rows[0]["prompt"][0]["content"].startswith("<video><audio>"), "the row itself must stay as it was"
