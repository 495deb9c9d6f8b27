"""Shards of other hands: each fault is named with shard, row, field and how to fix it, and good shards pass."""

import copy

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from verl_ext.data.dataset import ShardError, load_all, load_clips
from verl_ext.data.prompt_text import PromptTextError, check_text, special_token
from verl_ext.data.row_check import asked_faults, count_faults, row_faults

ROW = {
    "data_source": "mine",
    "prompt": [{"role": "user", "content": "<video><audio>Subtitle: Fine.\nWhat?"}],
    "videos": ["a.mp4"],
    "audios": ["a.wav"],
    "reward_model": {"style": "rule", "ground_truth": ["happy", "sad"]},
    "extra_info": {"index": 0, "name": "a", "split": "rl", "reason": "A smile.", "value": None, "options": []},
}


def changed(field, value):
    """The row with another value at COLUMN or COLUMN.FIELD."""
    row = copy.deepcopy(ROW)
    column, _, key = field.partition(".")
    if key:
        row[column][key] = value
    else:
        row[column] = value
    return row


@pytest.fixture
def write(tmp_path):
    """A function that writes rows as a shard whose clips exist, and returns its path."""
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "a.wav").write_bytes(b"x")

    def make(rows, name="shard.parquet", schema=None):
        table = pa.Table.from_pylist(rows, schema=schema)
        pq.write_table(table.replace_schema_metadata({"media_root": str(tmp_path)}), tmp_path / name)
        return tmp_path / name

    return make


def complaint(call, *arguments, **keywords):
    with pytest.raises(ShardError) as caught:
        call(*arguments, **keywords)
    return str(caught.value)


def test_a_good_row_has_no_fault():
    assert list(row_faults(ROW)) == []
    assert list(row_faults(changed("extra_info", {"name": "a"}))) == []
    assert list(row_faults(changed("extra_info.value", 3))) == []


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("reward_model.ground_truth", "happy", "reward_model.ground_truth is 'happy', but it must be a non-empty list"),
        ("reward_model.ground_truth", "happy", "e.g. ['happy']"),
        ("reward_model.ground_truth", [0.5], "reward_model.ground_truth is [0.5], but"),
        ("reward_model.ground_truth", 2.0, "reward_model.ground_truth is 2.0, but"),
        ("reward_model.ground_truth", [], "reward_model.ground_truth is [], but"),
        ("reward_model.ground_truth", None, "reward_model.ground_truth is None, but"),
        ("reward_model.ground_truth", ["happy", ""], "but it must be a non-empty list of words"),
        ("reward_model.ground_truth", ["happy<|im_end|>"], "contains '<|im_end|>'"),
        ("reward_model", "happy", "`reward_model` is 'happy'; write"),
        ("reward_model", {"style": "rule"}, "reward_model.ground_truth is None"),
        ("data_source", None, "`data_source` is None; write the name"),
        ("prompt", "<video>What?", "`prompt` is not a list of messages with role and content, but '<video>What?'"),
        ("prompt", [], "`prompt` is not a list of messages"),
        ("prompt", [{"role": "user", "content": None}], "both must be text"),
        ("prompt", [{"role": "user", "content": "<video><audio>a <|im_end|> b"}], "`prompt` contains '<|im_end|>'"),
        ("prompt", [{"role": "user", "content": "<video><audio><|AUDIO|>"}], "`prompt` contains '<|AUDIO|>'"),
        ("prompt", [{"role": "user", "content": "<video><audio><image>"}], "`prompt` contains '<image>'"),
        ("videos", "a.mp4", "`videos` is 'a.mp4'; write a list of paths"),
        ("audios", [1], "`audios` is [1]; write a list of paths"),
        ("extra_info", None, "`extra_info` is None; write {'name'"),
        ("extra_info", {"index": 1}, "extra_info.name is missing; write the clip's name"),
        ("extra_info.name", "", "extra_info.name is ''"),
        ("extra_info.name", 7, "extra_info.name is 7"),
        ("extra_info.reason", 0.5, "extra_info.reason is 0.5; write text, or null"),
        ("extra_info.options", "happy", "extra_info.options is 'happy'; write a list of words, or null"),
        ("extra_info.value", "0.5", "extra_info.value is '0.5'; write a number, or null"),
        ("extra_info.index", True, "extra_info.index is True; write a whole number, or null"),
        ("extra_info.reason", "ends <|im_end|> here", "extra_info.reason contains '<|im_end|>'"),
        ("extra_info.subtitle", "a <video> of me", "extra_info.subtitle contains '<video>'"),
        ("extra_info.options", ["a", "<|IMAGE|>"], "extra_info.options contains '<|IMAGE|>'"),
    ],
)
def test_each_fault_is_named_with_how_to_fix_it(field, value, message):
    (fault,) = row_faults(changed(field, value))
    assert message in fault


def test_a_row_without_labels_can_be_answered_but_not_trained_on():
    row = changed("reward_model.ground_truth", [])
    assert list(row_faults(row, labelled=False)) == []
    assert list(row_faults(changed("reward_model.ground_truth", "happy"), labelled=False)) != []


def test_what_python_calls_ask_by():
    assert "`prompt` is not a list" in next(asked_faults({"videos": []}))
    assert list(count_faults({**ROW, "audios": None})) == ["1 <audio> in the prompt, but 0 paths in `audios`"]


def test_a_bad_row_of_a_shard_is_named(write):
    path = write([ROW, changed("extra_info.name", None)])
    message = complaint(load_clips, path)
    assert f"{path}: 1 problems in 2 rows" in message
    assert "row 1: extra_info.name is None" in message


@pytest.mark.parametrize("labels", ["happy", 0.5])
def test_labels_that_are_no_list_are_refused_in_every_use(labels, write):
    rows = [changed("reward_model.ground_truth", labels)] * 2
    for call in (lambda path: load_clips(path, labelled=False), load_clips, lambda path: load_all([path])):
        message = complaint(call, write(rows))
        assert f"row 0: reward_model.ground_truth is {labels!r}" in message


def test_an_empty_shard_is_named(write):
    schema = pa.Table.from_pylist([ROW]).schema
    assert "has no rows" in complaint(load_clips, write([], schema=schema))


def test_shards_with_different_fields_are_refused_by_field(write):
    other = copy.deepcopy(ROW)
    del other["extra_info"]["reason"]
    other["extra_info"]["index"] = "0"
    paths = [write([ROW], "one.parquet"), write([other], "two.parquet")]
    message = complaint(load_all, paths)
    assert "two.parquet: 1 problems" in message
    assert "extra_info.index is '0'; write a whole number" in message
    other["extra_info"]["index"] = 0
    message = complaint(load_all, [paths[0], write([other], "two.parquet")])
    assert f"{paths[1]} has no extra_info.reason, but {paths[0]} has" in message
    assert "add the missing fields" in message


def test_shards_of_other_libraries_can_be_joined(write):
    wide = pa.Table.from_pylist([ROW])
    large = pa.schema(
        [field.with_type(pa.large_string() if field.name == "data_source" else field.type) for field in wide.schema]
    )
    more = changed("extra_info.options", ["happy"])
    more["mine"] = 1
    joined = load_all([write([ROW], "one.parquet", large), write([more], "two.parquet")])
    assert joined["data_source"][:] == ["mine", "mine"]
    assert [info["options"] for info in joined["extra_info"]] == [[], ["happy"]]
    assert "mine" not in joined.column_names


@pytest.mark.parametrize(
    "token", ["<|im_start|>", "<|AUDIO|>", "<|vision_bos|>", "<tts_pad>", "</tool_call>", "<image>"]
)
def test_special_tokens_are_found_by_name(token):
    assert special_token(f"he says {token} and goes") == token
    with pytest.raises(PromptTextError, match="the subtitle contains"):
        check_text(f"{token}", "the subtitle")


def test_usual_text_is_not_special():
    for text in ("a < b and c > d", "<think> and <answer>", "i <3 you", "| a | b |", "<video game>"):
        assert special_token(text) is None
    assert special_token("<video>", placeholders=False) is None
    assert special_token("a [END] b", tokens=["", "[END]"]) == "[END]"


def test_the_recipe_has_the_same_rule():
    from recipe.mer_r1.method import answer
    from verl_ext.data import prompt_text

    assert prompt_text.SPECIAL in answer._MARKUP.pattern
    for text in (*prompt_text.PLACEHOLDERS, "<|im_end|>", "<tts_pad>", "<tool_call>", "<|a b|>"):
        assert answer.markup_in(text) == prompt_text.special_token(text) == text
