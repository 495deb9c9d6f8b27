"""`main_eval generate`: files, resume, settings and messages; once with a real vLLM."""

import json
from types import SimpleNamespace

import pytest

from recipe.mer_r1 import main_eval
from recipe.mer_r1.answer import FAST_PREFIX
from recipe.mer_r1.eval import generate, records


def row(name="clip_1", labels=("happy", "sad")):
    return {
        "reward_model": {"ground_truth": list(labels)},
        "extra_info": {"name": name},
        "prompt": [{"role": "user", "content": "<video><audio>x"}],
        "videos": ["x.mp4"],
        "audios": ["x.wav"],
    }


@pytest.fixture
def rollout(monkeypatch):
    """A stand-in for vLLM that answers everything alike; it remembers what it was asked."""
    from recipe.mer_r1.eval import rollout as module

    class Asked(list):
        temperatures = ()

    asked = Asked()

    class Rollout:
        def __init__(self, *_):
            pass

        def __call__(self, requests):
            asked.append([(request.row["extra_info"]["name"], request.prefix, request.seed) for request in requests])
            asked.temperatures = [request.temperature for request in requests]
            starts = [request.prefix or "<think>so</think><answer>" for request in requests]
            return [module.Reply(f"{start}happy</answer>", tokens=4, finished=True) for start in starts]

    monkeypatch.setattr(module, "Rollout", Rollout)
    return asked


@pytest.fixture
def call(tmp_path, builtin):
    """Run the loop over some rows in a folder."""

    def run(count, thinking=("slow", "fast")):
        preset = generate.load_preset("tiny", [])
        arguments = SimpleNamespace(out=tmp_path, thinking=list(thinking), model="m", temperature=0.0, max_tokens=None)
        generate.generate(arguments, preset, [row(f"clip_{i}") for i in range(count)], builtin)
        return {mode: records.read(tmp_path / f"{mode}.jsonl") for mode in thinking}

    return run


def test_a_record_holds_the_words_and_their_scores(builtin):
    found = records.record(row(), 3, "<think>so</think><answer>joyful, sad</answer>", builtin)
    assert found["index"] == 3
    assert found["name"] == "clip_1"
    assert found["words"] == ["joyful", "sad"]
    assert found["num_words"] == 2
    assert found["recall"] == found["precision"] == found["f1"] == found["format"] == 1.0
    assert found["categories"] == pytest.approx(2.0)


def test_a_broken_response_is_scored_not_raised(builtin):
    found = records.record(row(), 0, "<think>so</think><answer>happy, sa", builtin)
    assert found["words"] == []
    assert found["f1"] == found["format"] == found["categories"] == 0.0


def test_means_leave_out_clips_whose_labels_map_nowhere(builtin):
    extra = {"tokens": 5, "finished": True}
    right = records.record(row(), 0, "<think>a</think><answer>happy, sad</answer>", builtin) | extra
    wrong = records.record(row(), 1, "<think>a</think><answer>angry</answer>", builtin) | extra
    nowhere = records.record(row(labels=["xyzzy"]), 2, "<think>a</think><answer>angry</answer>", builtin) | extra
    mean = records.means([right, wrong, nowhere])
    assert mean["n"] == 2
    assert mean["n_unmapped"] == 1
    assert mean["f1"] == pytest.approx(0.5)
    assert mean["f1_stderr"] == pytest.approx(0.5)
    assert mean["num_words"] == pytest.approx(1.5)


def test_means_of_nothing_are_none():
    mean = records.means([])
    assert mean["n"] == 0
    assert mean["f1"] is None
    assert mean["f1_stderr"] is None


def test_a_line_cut_off_by_a_kill_is_made_again(tmp_path):
    path = tmp_path / "slow.jsonl"
    records.append(path, [{"index": 0}, {"index": 1}])
    with path.open("a") as file:
        file.write('{"index": 2, "resp')
    assert list(records.read(path)) == [0, 1]
    records.append(path, [{"index": 2}])
    assert list(records.read(path)) == [0, 1, 2]


@pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\r", "\n", "高兴", "🙂"])
def test_what_python_takes_for_a_line_end_is_text(odd, tmp_path):
    path = tmp_path / "slow.jsonl"
    lines = [{"index": index, "response": f"<think>so{odd}{odd}so</think>"} for index in range(2)]
    records.append(path, lines)
    assert [*records.read(path).values()] == lines
    records.append(path, [{"index": 2, "response": odd}])
    assert records.read(path)[2]["response"] == odd


def test_a_character_cut_in_two_by_a_kill_is_made_again(tmp_path):
    path = tmp_path / "slow.jsonl"
    records.append(path, [{"index": 0, "response": "高兴"}, {"index": 1, "response": "高兴"}])
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex("兴".encode()) + 1])
    assert records.read(path) == {0: {"index": 0, "response": "高兴"}}
    assert path.read_bytes() == whole[: whole.index(b"\n") + 1]


def test_lines_are_read_as_utf_8_whatever_the_machine_says(tmp_path):
    import os
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from recipe.mer_r1.eval import records; path = Path(sys.argv[1]);"
        "records.append(path, [{'index': 0, 'response': '\\u9ad8'}]);"
        "assert records.read(path)[0]['response'] == '\\u9ad8'"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.jsonl")], check=True, env=environment)
    assert records.read(tmp_path / "a.jsonl")[0]["response"] == "高"


def test_a_folder_takes_one_set_of_settings(tmp_path):
    folder = tmp_path / "new" / "eval"
    records.claim(folder, {"temperature": 0.0, "model": "a"})
    records.claim(folder, {"temperature": 0.0, "model": "a"})
    with pytest.raises(records.OtherSettingsError, match=r"temperature: 0\.0 there, 1.0 here.*--out"):
        records.claim(folder, {"temperature": 1.0, "model": "a"})


def test_both_forms_of_a_clip_are_asked_together(rollout, call):
    found = call(3)
    assert [(name, prefix) for name, prefix, _ in rollout[0]] == [
        (f"clip_{i}", prefix) for i in range(3) for prefix in ("", FAST_PREFIX)
    ]
    assert {len(lines) for lines in found.values()} == {3}
    assert found["fast"][0]["response"].startswith(FAST_PREFIX)
    assert found["slow"][0]["tokens"] == 4


def test_seeds_are_the_same_whatever_the_order(rollout, call):
    call(2)
    first = {entry[:2]: entry[2] for batch in rollout for entry in batch}
    assert len(set(first.values())) == 4


def test_sampled_forms_are_asked_at_temperature_one_beside_greedy_ones(rollout, call):
    call(1, generate.FORMS)
    assert rollout.temperatures == [0.0, 0.0, 1.0, 1.0]
    assert [prefix for _, prefix, _ in rollout[0]] == ["", FAST_PREFIX] * 2
    assert len({seed for *_, seed in rollout[0]}) == 4


def test_a_resumed_run_asks_for_what_is_missing(rollout, call, tmp_path):
    call(4)
    slow = tmp_path / "slow.jsonl"
    kept = slow.read_text().splitlines(keepends=True)
    slow.write_text("".join(kept[:2]) + kept[2][:10])
    rollout.clear()
    found = call(4)
    assert [name for batch in rollout for name, *_ in batch] == ["clip_2", "clip_3"]
    assert list(found["slow"]) == [0, 1, 2, 3]


def test_a_finished_run_starts_no_model(rollout, call):
    call(2)
    rollout.clear()
    call(2)
    assert rollout == []


def test_more_clips_may_be_added(rollout, call):
    call(2, ["slow"])
    found = call(3, ["slow"])
    assert list(found["slow"]) == [0, 1, 2]


def test_preset_changes_are_checked():
    assert generate.load_preset("tiny", ["media.fps=1.5"]).media.fps == 1.5
    with pytest.raises(ValueError, match="no such key"):
        generate.load_preset("tiny", ["media.fsp=1"])
    with pytest.raises(ValueError, match="write KEY=VALUE"):
        generate.load_preset("tiny", ["media.fps"])
    with pytest.raises(ValueError, match=r"there are .*tiny"):
        generate.load_preset("tinny", [])


def test_the_dispatcher_names_its_commands(capsys):
    with pytest.raises(SystemExit) as stop:
        main_eval.main(["generte"])
    assert stop.value.code == 2
    assert "generate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "media.x=1"], "no such key"),
        (["--preset", "nothing"], "no such preset"),
        ([], "no such file"),
    ],
)
def test_bad_input_ends_with_two_and_a_message(arguments, message, tiny_model, tmp_path, capsys):
    wanted = ["--model", str(tiny_model), "--shard", str(tmp_path / "x.parquet"), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stop:
        generate.app([*wanted, *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_missing_model_folder_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"--model.*no such folder"):
        generate.app(["--model", str(tmp_path / "no"), "--shard", "x.parquet", "--out", str(tmp_path / "out")])


@pytest.mark.seam
def test_a_real_vllm_answers_in_both_forms(tiny_model, micro_corpus, tmp_path):
    """Sampled, in batches that do not hold all prompts at once."""
    import subprocess
    import sys

    out = tmp_path / "out"
    command = [sys.executable, "-m", "recipe.mer_r1.main_eval", "generate", "--model", str(tiny_model)]
    command += ["--shard", str(micro_corpus / "shards" / "test.parquet"), "--out", str(out)]
    command += ["--temperature", "1", "--max-tokens", "24", "--limit", "3"]
    command += ["--set", "rollout.max_batched_tokens=250"]
    done = subprocess.run(command, text=True, capture_output=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    scores = json.loads((out / "scores.json").read_text())
    assert scores["modes"]["slow"]["n"] == scores["modes"]["fast"]["n"] == 3
    assert scores["settings"]["wheels"]["sha256"]
    assert scores["versions"]["vllm"]
    lines = [*records.read(out / "slow.jsonl").values(), *records.read(out / "fast.jsonl").values()]
    assert all(0 < line["tokens"] <= 24 for line in lines)
    assert all(line["response"].startswith(FAST_PREFIX) for line in lines[3:])
    first = (out / "slow.jsonl").read_text()
    again = subprocess.run(command, text=True, capture_output=True, timeout=600, check=False)
    assert again.returncode == 0
    assert (out / "slow.jsonl").read_text() == first


@pytest.mark.parametrize(("woven", "expected"), [("false", 2), ("true", 0)])
def test_vllms_cache_of_clips_is_used_unless_the_audio_is_inside_the_video(tiny_model, monkeypatch, woven, expected):
    import sys

    from recipe.mer_r1.eval.rollout import Rollout

    asked = {}
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=lambda **options: asked.update(options)))
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    changes = [f"media.use_audio_in_video={woven}", "rollout.media_cache_gb=2"]
    Rollout(str(tiny_model), generate.load_preset("tiny", changes), 8)
    assert asked["mm_processor_cache_gb"] == expected


def test_media_placeholders_and_ids_without_token_are_banned(tiny_model):
    from transformers import AutoConfig, AutoProcessor

    from recipe.mer_r1.eval.rollout import ban
    from verl_ext.omni.processor import bind

    processor = bind(AutoProcessor.from_pretrained(tiny_model), AutoConfig.from_pretrained(tiny_model))
    tokens = len(processor.tokenizer)
    banned = ban(processor, tokens + 3)
    assert {processor.audio_token_id, processor.vision_bos_token_id, tokens, tokens + 2} <= banned.keys()
    assert len(banned) == 7 + 3
    assert processor.tokenizer.eos_token_id not in banned
    assert set(banned.values()) == {-100.0}


def test_settings_name_the_media_root_and_not_where_clips_are_kept(tmp_path):
    def chosen(*more, cache=()):
        given = ["--model", "m", "--shard", str(tmp_path / "x.parquet"), "--out", str(tmp_path), *more]
        preset = generate.load_preset("tiny", cache)
        return generate.settings(generate.parser("generate").parse_args(given), preset, {})

    assert chosen()["media_root"] is None
    assert chosen("--media-root", str(tmp_path))["media_root"] == str(tmp_path.resolve())
    assert chosen(cache=["media.cache_folder=/clips", "media.cache_gb=2"]) == chosen()
