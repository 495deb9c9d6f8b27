"""`main_eval run`: files, resume, failures, settings and messages; once with a real vLLM."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from recipe.mer_r1 import main_eval
from recipe.mer_r1.eval import clip_sets, generate, records, run
from recipe.mer_r1.eval.answers import read_answers
from recipe.mer_r1.eval.fingerprints import sha256
from recipe.mer_r1.method.answer import FAST_PREFIX, ONE_ANSWER, TWO_ANSWERS, ask_for, build_prompt
from recipe.mer_r1.pipeline.progress import Status


def row(name="clip_1", labels=("happy", "sad")):
    return {
        "data_source": "mer_micro",
        "reward_model": {"ground_truth": list(labels)},
        "extra_info": {"name": name, "split": "test"},
        "prompt": [{"role": "user", "content": "<video><audio>x"}],
        "videos": ["x.mp4"],
        "audios": ["x.wav"],
    }


class Answering:
    """Stands where vLLM would: answers everything alike, last request first; remembers what it was asked."""

    def __init__(self):
        self.asked, self.failing = [], set()

    def stream(self, requests):
        from recipe.mer_r1.eval.rollout import Failure, Reply

        taken = list(requests)
        self.asked += taken
        for request in reversed(taken):
            name = request.row["extra_info"]["name"]
            if name in self.failing:
                yield request, Failure(f"{name}: cannot be decoded")
            else:
                start = request.prefix or "<think>so</think><answer>"
                yield request, Reply(f"{start}happy</answer>", 4, True, prompt_tokens=20, cached_tokens=16)


@pytest.fixture
def rollout():
    return Answering()


@pytest.fixture
def made(tmp_path, builtin):
    """Answers of some rows in a folder."""

    def make(count, modes=("slow", "fast"), temperature=0.0, samples=1):
        rows = [row(f"clip_{i}") for i in range(count)]
        clips = clip_sets.ClipSet(tmp_path / "x.parquet", "mer_micro", "test", count, "0", rows)
        return generate.Generation(tmp_path, clips, modes, temperature, 0, builtin, samples)

    return make


def ask(made, rollout):
    told = []
    made(rollout, lambda: told.append(1))
    return {mode: {line["index"]: line for line in lines} for mode, lines in made.lines()}, len(told)


def asked(rollout):
    return [(request.row["extra_info"]["name"], request.prefix) for request in rollout.asked]


def test_both_modes_of_a_clip_are_asked_one_after_the_other(rollout, made):
    found, told = ask(made(3), rollout)
    assert asked(rollout) == [(f"clip_{i}", prefix) for i in range(3) for prefix in ("", FAST_PREFIX)]
    assert told == 6
    assert {mode: list(lines) for mode, lines in found.items()} == {"slow": [0, 1, 2], "fast": [0, 1, 2]}
    assert found["fast"][0]["response"].startswith(FAST_PREFIX)
    assert found["slow"][0]["tokens"] == 4
    assert found["slow"][0]["cached_tokens"] == 16


def test_every_answer_has_a_seed_of_its_own_whatever_is_asked_beside_it(rollout, made):
    ask(made(2, ["fast"]), rollout)
    ask(made(2), rollout)
    seeds = {(request.row["extra_info"]["name"], request.prefix): request.seed for request in rollout.asked}
    assert len(set(seeds.values())) == 4
    again = Answering()
    list(again.stream(made(2, generate.MODES)._request(mode, index) for index in range(2) for mode in ("slow", "fast")))
    assert [request.seed for request in again.asked] == [seeds[key] for key in asked(again)]


def test_sampled_modes_are_asked_at_temperature_one_beside_greedy_ones(rollout, made):
    ask(made(1, generate.MODES), rollout)
    assert [request.temperature for request in rollout.asked] == [0.0, 0.0, 1.0, 1.0]
    assert [request.prefix for request in rollout.asked] == ["", FAST_PREFIX] * 2
    assert len({request.seed for request in rollout.asked}) == 4


def test_sampled_modes_have_several_answers_per_clip_each_with_its_own_seed(rollout, made):
    ask(made(2, generate.MODES), rollout)
    first = {request.key: request.seed for request in rollout.asked}
    rollout.asked.clear()
    generation = made(2, generate.MODES, samples=3)
    assert generation.total == 2 * (1 + 1 + 3 + 3)
    _, told = ask(generation, rollout)
    added = [(mode, i, s) for i in range(2) for mode in ("slow_sampled", "fast_sampled") for s in (1, 2)]
    assert [request.key for request in rollout.asked] == added  # what was there is kept; a clip's answers together
    assert told == 8
    seeds = first | {request.key: request.seed for request in rollout.asked}
    assert len({seed % 2**32 for seed in seeds.values()}) == len(seeds) == 16
    assert seeds["slow_sampled", 1, 0] == 4 + 2  # as before there were several
    assert seeds["slow_sampled", 1, 2] == 4 + 2 + 2 * 15_485_863


def test_every_sample_of_a_clip_is_a_line(rollout, made, tmp_path):
    generation = made(2, ["slow", "slow_sampled"], samples=2)
    ask(generation, rollout)
    lines = dict(generation.lines())
    assert [(line["index"], line["sample"]) for line in lines["slow_sampled"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [(line["index"], line["sample"]) for line in lines["slow"]] == [(0, 0), (1, 0)]
    assert [(answer.index, answer.sample) for answer in made_answers(tmp_path / "slow_sampled.jsonl")] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    ]


def made_answers(path):
    from recipe.mer_r1.eval import answers

    return answers._lines(path)


def test_an_answer_that_is_missing_is_made_again_and_no_other(rollout, made, tmp_path):
    ask(made(2, ["fast_sampled"], samples=3), rollout)
    path = tmp_path / "fast_sampled.jsonl"
    kept = path.read_text().splitlines(keepends=True)  # last request first: clip 1 with samples 2, 1, 0, then clip 0
    path.write_text("".join([*kept[:4], kept[5], kept[4][:20]]))
    assert made(2, ["fast_sampled"], samples=3).missing() == [("fast_sampled", 0, 1)]
    assert made(2, ["fast_sampled"], samples=4).missing() == [
        ("fast_sampled", 0, 1),
        ("fast_sampled", 0, 3),
        ("fast_sampled", 1, 3),
    ]


def test_fewer_samples_than_a_folder_holds_are_refused(rollout, made):
    ask(made(1, ["slow", "slow_sampled"], samples=3), rollout)
    message = r"slow_sampled\.jsonl holds 3 answers per clip, more than --samples 2\. Use --samples 3 or more"
    with pytest.raises(generate.FewerSamplesError, match=message):
        made(1, ["slow_sampled"], samples=2)
    made(1, ["slow", "fast_sampled"])  # these have one


def test_scores_are_means_over_clips_of_the_means_over_samples(builtin):
    extra = {"tokens": 5, "finished": True}

    def line(index, sample, words):
        return records.record(row(), index, f"<think>a</think><answer>{words}</answer>", builtin, sample) | extra

    # F1 is 1 for both labels, 2/3 for one of two, 0 for another emotion.
    lines = [line(0, 0, "happy, sad"), line(0, 1, "happy"), line(1, 0, "angry"), line(1, 1, "happy")]
    lines += [line(2, 0, "angry"), line(2, 1, "angry") | {"failed": "x"}]
    mean = records.means(lines)
    assert (mean["n"], mean["samples"], mean["n_failed"], mean["n_unmapped"]) == (3, 2, 1, 0)
    clips = [5 / 6, 1 / 3, 0]
    assert mean["f1"] == pytest.approx(sum(clips) / 3)
    spread = sum((f1 - sum(clips) / 3) ** 2 for f1 in clips)
    assert mean["f1_stderr"] == pytest.approx((spread / 2 / 3) ** 0.5)
    assert mean["num_words"] == pytest.approx((1.5 + 1 + 1) / 3)


def test_a_resumed_run_asks_for_what_is_missing(rollout, made, tmp_path):
    ask(made(4), rollout)
    slow = tmp_path / "slow.jsonl"
    kept = slow.read_text().splitlines(keepends=True)  # answers came last first: clips 3, 2, 1, 0
    slow.write_text("".join(kept[:2]) + kept[2][:10])
    rollout.asked.clear()
    found, told = ask(made(4), rollout)
    assert asked(rollout) == [("clip_0", ""), ("clip_1", "")]
    assert told == 2
    assert list(found["slow"]) == [0, 1, 2, 3]
    rollout.asked.clear()
    assert made(4).missing() == []


def test_more_clips_and_modes_may_be_added(rollout, made):
    ask(made(2, ["slow"]), rollout)
    rollout.asked.clear()
    ask(made(3), rollout)
    assert asked(rollout) == [("clip_0", FAST_PREFIX), ("clip_1", FAST_PREFIX), ("clip_2", ""), ("clip_2", FAST_PREFIX)]


def test_a_clip_that_fails_is_a_line_with_its_reason_and_counts_as_wrong(rollout, made, tmp_path):
    rollout.failing = {"clip_1"}
    found, told = ask(made(2), rollout)
    assert told == 4
    assert found["slow"][1]["failed"] == "clip_1: cannot be decoded"
    assert found["slow"][1]["recall"] == found["slow"][1]["f1"] == found["slow"][1]["format"] == 0.0
    mean = made(2).write_scores({}, 1.0)["slow"]
    assert (mean["n"], mean["n_failed"]) == (2, 1)
    assert mean["f1"] == pytest.approx(found["slow"][0]["f1"] / 2)
    assert made(2).missing() == []
    assert json.loads((tmp_path / "scores.json").read_text())["modes"]["fast"]["n_failed"] == 1


def test_what_made_the_answers_is_not_who_looked_at_them_last(rollout, made, tmp_path, monkeypatch):
    for commit, clips in (("a", 2), ("b", 2), ("c", 3)):
        monkeypatch.setattr(generate, "git_state", lambda commit=commit: commit)
        generation = made(clips)
        ask(generation, rollout)
        generation.write_scores({}, 1.0)
    starts = json.loads((tmp_path / "scores.json").read_text())["starts"]
    assert [(start["git"], start["answers"]) for start in starts] == [("a", 4), ("c", 2)]


def test_one_process_at_a_time_writes_into_a_folder(tmp_path):
    folder = tmp_path / "new"
    in_use = pytest.raises(records.InUseError, match="another `main_eval` command")
    with records.alone(folder), in_use, records.alone(folder):
        pass
    with records.alone(folder):
        pass


def test_answers_are_read_by_the_process_that_has_the_folder(
    held, tiny_model, micro_corpus, tmp_path, monkeypatch, capsys
):
    """Reading removes a line that is cut off, which another process may be writing."""
    from recipe.mer_r1.eval import rollout

    shard = micro_corpus / "shards" / "test.parquet"
    stand_in = Answering()
    stand_in.failing = {clip_sets.load_clip_sets([shard], None, False, 1)[0].rows[0]["extra_info"]["name"]}
    monkeypatch.setattr(rollout, "Rollout", lambda *_: stand_in)
    run.app(["--model", str(tiny_model), "--data", str(shard), "--out", str(tmp_path), "--limit", "2"])
    assert "slow: 1 of 2 clips failed and count as wrong. The first is 'test_" in capsys.readouterr().err
    assert {path.name for path in held} == {"slow.jsonl", "fast.jsonl"}


@pytest.mark.seam
def test_whatever_is_wrong_with_a_clip_is_its_reason():
    """One clip must not end the run, and every run that goes on from it."""
    from recipe.mer_r1.eval.rollout import Failure, Request, Rollout

    class Broken(Rollout):
        def __init__(self):
            pass

        def _prompt(self, request):
            raise ZeroDivisionError("a frame rate of 0")

    request = Request(row(), "", 0.0, 0, key=None)
    assert Broken()._prepare(request) == (request, Failure("ZeroDivisionError: a frame rate of 0"))


class OwnError(Exception):
    """As vLLM 0.28.0's VLLMClientError."""


@pytest.fixture
def rejecting(monkeypatch):
    """A rollout whose vLLM rejects every prompt with an error."""
    import sys

    from recipe.mer_r1.eval.rollout import Rollout

    class Rejecting(Rollout):
        def __init__(self, error):
            def enqueue(*_, **__):
                raise error

            self.in_flight, self.llm = 1, SimpleNamespace(enqueue=enqueue)

        def _prompt(self, request):
            return {}

        def _sampling(self, request):
            if request.temperature > 2:
                raise ValueError("temperature must be in [0, 2]")

    def of(release, error):
        own = {"VLLMClientError": OwnError} if release == "0.28.0" else {}
        monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(exceptions=SimpleNamespace(**own)))
        return Rejecting(error)

    return of


@pytest.mark.parametrize(
    ("release", "error"), [("0.24.0", ValueError), ("0.28.0", ValueError), ("0.28.0", OwnError)]
)  # fmt: skip
def test_a_prompt_that_vllm_rejects_is_the_failure_of_its_clip(release, error, rejecting):
    from recipe.mer_r1.eval.rollout import Failure, Request

    requests = [Request(row(), "", 0.0, 0, key=number) for number in range(2)]
    found = [*rejecting(release, error("too long")).stream(requests)]
    assert found == [(request, Failure("vLLM rejects the prompt: too long")) for request in requests]


def test_what_is_no_fault_of_a_prompt_ends_the_run(rejecting):
    """Not every clip as failed: with wrong settings, and with an engine that is dead."""
    from recipe.mer_r1.eval.rollout import Request

    with pytest.raises(ValueError, match="temperature must be"):
        list(rejecting("0.24.0", ValueError("too long")).stream([Request(row(), "", 2.5, 0)]))
    with pytest.raises(RuntimeError, match="dead"):
        list(rejecting("0.28.0", RuntimeError("dead")).stream([Request(row(), "", 0.0, 0)]))


def test_a_clip_that_was_mended_can_be_asked_for_again(rollout, made):
    rollout.failing = {"clip_0", "clip_2"}
    ask(made(3), rollout)
    again = made(3)
    assert again.forget_failures() == 4
    assert again.missing() == [(mode, index, 0) for index in (0, 2) for mode in ("slow", "fast")]
    rollout.failing = set()
    found, _ = ask(again, rollout)
    assert not any("failed" in line for line in found["slow"].values())
    assert again.forget_failures() == 0


def test_a_record_holds_the_words_and_their_scores(builtin):
    found = records.record(row(), 3, "<think>so</think><answer>joyful, sad</answer>", builtin)
    assert found["index"] == 3
    assert found["name"] == "clip_1"
    assert found["data_source"] == "mer_micro"
    assert len(found["prompt_sha256"]) == 64
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


def test_means_count_answers_that_no_wheel_knows_and_empty_thoughts(builtin):
    extra = {"tokens": 5, "finished": True}
    replies = (
        "<think>a</think><answer>happy</answer>",
        "<think> </think><answer>happy，sad</answer>",  # one word by the official rule
        "<think>a</think><answer></answer>",
    )
    lines = [records.record(row(), index, reply, builtin) | extra for index, reply in enumerate(replies)]
    mean = records.means([*lines, records.failure(row(), 3, "broken", builtin)])
    assert lines[1]["words"] == ["happy，sad"]
    assert mean["answer_unknown"] == 1 / 4
    assert mean["thought_empty"] == 1 / 4


@pytest.mark.parametrize("truth", ["happy", None, [0.5]])
def test_labels_are_never_letters(truth, builtin):
    bad = row() | {"reward_model": {"ground_truth": truth}}
    with pytest.raises(ValueError, match=r"reward_model\.ground_truth"):
        records.record(bad, 0, "", builtin)


def test_means_of_nothing_are_none():
    mean = records.means([])
    assert mean["answer_unknown"] is mean["thought_empty"] is None
    assert mean["n"] == mean["samples"] == 0
    assert mean["f1"] is None
    assert mean["f1_stderr"] is None


def test_a_line_cut_off_by_a_kill_is_made_again(tmp_path):
    path = tmp_path / "slow.jsonl"
    records.append(path, [{"index": 0}, {"index": 1}])
    with path.open("a") as file:
        file.write('{"index": 2, "resp')
    assert list(records.read(path)) == [(0, 0), (1, 0)]
    records.append(path, [{"index": 2}])
    assert list(records.read(path)) == [(0, 0), (1, 0), (2, 0)]


@pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\r", "\n", "高兴", "🙂"])
def test_what_python_takes_for_a_line_end_is_text(odd, tmp_path):
    path = tmp_path / "slow.jsonl"
    lines = [{"index": index, "response": f"<think>so{odd}{odd}so</think>"} for index in range(2)]
    records.append(path, lines)
    assert [*records.read(path).values()] == lines
    records.append(path, [{"index": 2, "response": odd}])
    assert records.read(path)[2, 0]["response"] == odd


def test_a_character_cut_in_two_by_a_kill_is_made_again(tmp_path):
    path = tmp_path / "slow.jsonl"
    records.append(path, [{"index": 0, "response": "高兴"}, {"index": 1, "response": "高兴"}])
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex("兴".encode()) + 1])
    assert records.read(path) == {(0, 0): {"index": 0, "response": "高兴"}}
    assert path.read_bytes() == whole[: whole.index(b"\n") + 1]


def test_lines_are_read_as_utf_8_whatever_the_machine_says(tmp_path):
    import os
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from recipe.mer_r1.eval import records; path = Path(sys.argv[1]);"
        "records.append(path, [{'index': 0, 'response': '\\u9ad8'}]);"
        "assert records.read(path)[0, 0]['response'] == '\\u9ad8'"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.jsonl")], check=True, env=environment)
    assert records.read(tmp_path / "a.jsonl")[0, 0]["response"] == "高"


def test_a_folder_takes_one_set_of_settings_wherever_things_lie(tmp_path):
    folder = tmp_path / "new" / "eval"
    chosen = {"temperature": 0.0, "model": "a", "form": "think_answer"}
    records.claim(folder, chosen)
    records.claim(folder, chosen)
    records.claim(folder, chosen | {"model": "b"})
    assert json.loads((folder / records.SETTINGS).read_text())["model"] == "b"
    with pytest.raises(records.OtherSettingsError, match=r"temperature: 0\.0 there, 1.0 here.*--out"):
        records.claim(folder, chosen | {"temperature": 1.0})
    with pytest.raises(records.OtherSettingsError, match="form: think_answer there, answer_think_answer here"):
        records.claim(folder, chosen | {"form": "answer_think_answer"})


def test_a_folder_of_version_0_1_0_names_no_form(tmp_path):
    (tmp_path / records.SETTINGS).write_text('{"model": "a"}')
    records.claim(tmp_path, {"model": "a", "form": "think_answer"})
    (tmp_path / records.SETTINGS).write_text('{"model": "a"}')
    with pytest.raises(records.OtherSettingsError, match="form: think_answer there"):
        records.claim(tmp_path, {"model": "a", "form": "answer_think_answer"})


def test_preset_changes_are_checked():
    assert generate.load_preset("tiny", ["media.fps=1.5"]).media.fps == 1.5
    with pytest.raises(ValueError, match="no such key"):
        generate.load_preset("tiny", ["media.fsp=1"])
    with pytest.raises(ValueError, match="write KEY=VALUE"):
        generate.load_preset("tiny", ["media.fps"])
    with pytest.raises(ValueError, match=r"use one of .*tiny"):
        generate.load_preset("tinny", [])


def test_the_dispatcher_names_its_commands(capsys):
    with pytest.raises(SystemExit) as stop:
        main_eval.main(["rnu"])
    assert stop.value.code == 2
    assert "  run " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "media.x=1"], "no such key"),
        (["--preset", "nothing"], "no such preset"),
        ([], "no such file"),
        (["--mode", "slow,quick"], "unknown mode 'quick'; use slow, fast"),
        (["--samples", "4"], "--samples 4 needs a mode that ends in _sampled"),
        (["--mode", "slow_sampled", "--samples", "0"], "invalid positive value: '0'"),
        (["--temperature", "2.5"], "--temperature: 2.5: must be from 0 (greedy) to 2"),
        (["--temperature", "nan"], "--temperature: nan: must be from 0 (greedy) to 2"),
        (["--max-tokens", "-5"], "--max-tokens: invalid positive value: '-5'"),
        (["--max-tokens", "0"], "--max-tokens: invalid positive value: '0'"),
        (["--limit", "0"], "--limit: invalid positive value: '0'"),
        (["--limit", "-3"], "--limit: invalid positive value: '-3'"),
    ],
)
def test_bad_input_ends_with_two_and_a_message(arguments, message, tiny_model, tmp_path, capsys):
    wanted = ["--model", str(tiny_model), "--data", str(tmp_path / "x.parquet"), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stop:
        run.app([*wanted, *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_missing_model_folder_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"--model.*no such folder"):
        run.app(["--model", str(tmp_path / "no"), "--data", "x.parquet", "--out", str(tmp_path / "out")])


def test_how_far_the_answers_are(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(run.time, "monotonic", lambda: now[0])
    counted = run.Counted()
    assert counted.status() == Status(text="checking the clips", phase="checking the clips")
    counted.begin(total=10, done=4)
    now[0] += 6
    for _ in range(3):
        counted.one_more()
    assert counted.status() == Status(7, 10, "7/10 answers  0.5 per s  6 s left", phase="answers")


@pytest.fixture
def shard(micro_corpus):
    return micro_corpus / "shards" / "test.parquet"


def test_each_shard_has_a_folder_of_its_own(shard, tmp_path):
    def named(*changes):
        sets = []
        for source, split in changes:
            clips = clip_sets.load_clip_sets([shard], None, False, 2)[0]
            sets.append(SimpleNamespace(shard=shard, corpus=source, split=split) if source else clips)
        return clip_sets.folder_names(sets)

    assert named((None, None), ("meld", "test")) == ["mer_micro", "meld"]
    assert named(("meld", "val"), ("meld", "test")) == ["meld-val", "meld-test"]
    with pytest.raises(ValueError, match=r"all belong to meld-test; answer each with its own --out"):
        named(("meld", "test"), ("meld", "test"))
    with pytest.raises(ValueError, match="given twice"):
        clip_sets.load_clip_sets([shard, shard], None, False, None)


def test_a_shard_says_what_it_holds(shard):
    clips = clip_sets.load_clip_sets([shard], None, False, 2)[0]
    assert (clips.corpus, clips.split, len(clips.rows)) == ("mer_micro", "test", 2)
    whole = clip_sets.load_clip_sets([shard], None, False, None)[0]
    assert whole.n == clips.n == len(whole.rows) > 2
    assert whole.sha256 == clips.sha256


def test_settings_name_the_media_root_and_not_where_clips_are_kept(shard, tmp_path):
    def chosen(*more, cache=()):
        given = ["--model", "m", "--data", str(shard), "--out", str(tmp_path), *more]
        preset = generate.load_preset("tiny", cache)
        clips = clip_sets.load_clip_sets([shard], None, False, None)[0]
        return generate.settings(run.parser("run").parse_args(given), preset, {}, "0", clips)

    assert chosen()["media_root"] is None
    assert chosen("--media-root", str(tmp_path))["media_root"] == str(tmp_path.resolve())
    assert chosen(cache=["media.cache_folder=/clips", "media.cache_gb=2"]) == chosen()


@pytest.mark.seam
def test_a_real_vllm_answers_in_both_modes_and_says_which_clips_failed(tiny_model, micro_corpus, tmp_path):
    """Sampled, two shards, prompts in batches that do not hold all; a clip that is broken; then nothing to do."""
    import subprocess
    import sys
    from pathlib import Path

    import pyarrow as pa
    from pyarrow import parquet

    from verl_ext.data.dataset import load_shard

    test = micro_corpus / "shards" / "test.parquet"
    rows = load_shard(micro_corpus / "shards" / "rl.parquet").to_list()[:2]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(Path(rows[1]["videos"][0]).read_bytes()[:1500])
    rows[1]["videos"] = [str(broken)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "rl.parquet")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "recipe.mer_r1.main_eval", "run", "--model", str(tiny_model)]
    command += ["--data", str(test), str(tmp_path / "rl.parquet"), "--out", str(out)]
    command += ["--temperature", "1", "--max-tokens", "24", "--limit", "3"]
    command += ["--set", "rollout.max_batched_tokens=250", "rollout.max_sequences=2"]
    done = subprocess.run(command, text=True, capture_output=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line.split()[0] for line in done.stdout.splitlines()[:5]] == ["answers", "model", "data", "modes", "wheels"]
    assert "answers  done, " in done.stdout
    assert len(done.stdout.splitlines()) < 30
    assert "set_num_threads" not in (out / "log.txt").read_text()  # a warning of vLLM for each clip
    assert "1 of 2 clips failed" in done.stderr
    assert str(broken) in done.stderr
    folder, other = out / "mer_micro-test", out / "mer_micro-rl"
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["modes"]["slow"]["n"] == scores["modes"]["fast"]["n"] == 3
    assert scores["settings"]["wheels"]["sha256"]
    assert scores["starts"][0]["versions"]["vllm"]
    assert json.loads((other / "scores.json").read_text())["modes"]["slow"]["n_failed"] == 1
    lines = [*records.read(folder / "slow.jsonl").values(), *records.read(folder / "fast.jsonl").values()]
    assert all(0 < line["tokens"] <= 24 for line in lines)
    assert all(line["response"].startswith(FAST_PREFIX) for line in lines[3:])
    assert sum(line["cached_tokens"] > 0 for line in lines) == 3  # the second mode of each clip
    answers = read_answers(folder)
    assert answers.settings.corpus == "mer_micro"
    assert [len(answers.modes[mode]) for mode in ("slow", "fast")] == [3, 3]
    first = (folder / "slow.jsonl").read_text()
    again = subprocess.run(command, text=True, capture_output=True, timeout=600, check=False)
    assert again.returncode == 0
    assert "10 of 10 answers were there already" in again.stdout
    assert (folder / "slow.jsonl").read_text() == first

    both = [str(tmp_path / "both") if part == str(out) else part for part in command]
    done = subprocess.run([*both, "--workers", "2"], text=True, capture_output=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "workers  2" in done.stdout
    assert "1 of 2 clips failed" in done.stderr
    for one in (folder, other):
        shared = tmp_path / "both" / one.name
        for mode in ("slow", "fast"):
            assert without_cache(shared / f"{mode}.jsonl") == without_cache(one / f"{mode}.jsonl")
        assert not [*shared.glob("worker-*")]
        found = [json.loads((each / "scores.json").read_text()) for each in (one, shared)]
        assert found[0]["modes"] == found[1]["modes"]
        assert found[0]["settings"] == found[1]["settings"]
        assert found[0]["starts"][0]["answers"] == found[1]["starts"][0]["answers"]
    assert (tmp_path / "both" / "worker-2.log").stat().st_size


def without_cache(path):
    """The answers of a file; what vLLM had cached depends on what was asked before."""
    return {key: {**line, "cached_tokens": None} for key, line in records.read(path).items()}


@pytest.mark.seam
def test_answers_do_not_depend_on_what_is_cached(tiny_model, micro_corpus):
    """Fast alone, and fast after slow, whose prompt is its own but for the end."""
    from recipe.mer_r1.eval.rollout import Request, Rollout
    from recipe.mer_r1.run import launch

    preset = generate.load_preset("tiny", [])
    launch.prepare_environment("cpu", str(tiny_model))
    clips = clip_sets.load_clip_sets([micro_corpus / "shards" / "test.parquet"], None, False, 4)[0]
    rollout = Rollout(str(tiny_model), preset, 16)

    def answers(modes):
        rollout.llm.reset_prefix_cache()
        wanted = [
            Request(r, generate.PREFIXES[mode], 0.0, 0, (mode, i)) for i, r in enumerate(clips.rows) for mode in modes
        ]
        return {request.key: reply for request, reply in rollout.stream(wanted)}

    alone, together = answers(["fast"]), answers(["slow", "fast"])
    assert all(not reply.cached_tokens for reply in alone.values())
    assert all(together["fast", i].cached_tokens or together["slow", i].cached_tokens for i in range(4))
    assert {key: together[key].text for key in alone} == {key: reply.text for key, reply in alone.items()}

    whole = rollout._prompt
    rollout._prompt = lambda request: {"prompt_token_ids": []} if request.key == 1 else whole(request)
    wanted = [Request(r, "", 0.0, 0, i) for i, r in enumerate(clips.rows)]
    found = {request.key: reply for request, reply in rollout.stream(wanted)}
    assert found.pop(1).reason.startswith("vLLM rejects the prompt: The decoder prompt cannot be empty")
    assert {key: reply.text for key, reply in found.items()} == {i: together["slow", i].text for i in (0, 2, 3)}


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
    from verl_ext.models.processor import bind

    processor = bind(AutoProcessor.from_pretrained(tiny_model), AutoConfig.from_pretrained(tiny_model))
    tokens = len(processor.tokenizer)
    banned = ban(processor, tokens + 3)
    assert {processor.audio_token_id, processor.vision_bos_token_id, tokens, tokens + 2} <= banned.keys()
    assert len(banned) == 7 + 3
    assert processor.tokenizer.eos_token_id not in banned
    assert set(banned.values()) == {-100.0}


# --- a model that answers, thinks and answers again

TWICE = "<answer>happy</answer><think>so</think><answer>happy, sad</answer>"


class AnsweringTwice(Answering):
    def stream(self, requests):
        for request, reply in super().stream(requests):
            yield request, replace(reply, text=TWICE) if hasattr(reply, "text") else reply


@pytest.fixture
def twice(tmp_path, builtin):
    """As `made`, of the form answer_think_answer."""

    def make(count, modes=("slow", "fast"), samples=1):
        rows = [row(f"clip_{i}") for i in range(count)]
        clips = clip_sets.ClipSet(tmp_path / "x.parquet", "mer_micro", "test", count, "0", rows)
        return generate.Generation(tmp_path, clips, modes, 0.0, 0, builtin, samples, TWO_ANSWERS)

    return make


def test_one_response_gives_the_fast_and_the_slow_answer(twice, tmp_path):
    rollout = AnsweringTwice()
    found, told = ask(twice(2), rollout)
    assert [(request.prefix, request.key) for request in rollout.asked] == [("", ("slow", i, 0)) for i in range(2)]
    assert told == twice(2).total == 2
    slow, fast = found["slow"][0], found["fast"][0]
    assert (slow["words"], slow["response"]) == (["happy", "sad"], TWICE)
    assert (fast["words"], fast["response"]) == (["happy"], "<answer>happy</answer>")
    assert (slow["recall"], slow["precision"], slow["f1"], slow["format"]) == (1, 1, 1, 1)
    assert (fast["recall"], fast["precision"], fast["f1"]) == (0.5, 1, pytest.approx(2 / 3))
    assert fast["format"] == 1  # of the complete response
    assert (fast["num_words"], fast["categories"], fast["tokens"]) == (1, 1, 4)
    assert read_lines(tmp_path, "fast") == list(found["fast"].values())[::-1]
    scores = twice(2).write_scores({}, 1.0)
    assert (scores["slow"]["f1"], scores["fast"]["f1"]) == (1, pytest.approx(2 / 3))


def read_lines(folder, mode):
    return [json.loads(line) for line in (folder / f"{mode}.jsonl").read_text().splitlines()]


def test_a_fast_answer_of_two_comes_with_its_slow_one(twice):
    found, told = ask(twice(1, ["fast_sampled"], samples=2), AnsweringTwice())
    assert told == 2
    assert list(found) == ["slow_sampled", "fast_sampled"]
    lines = dict(twice(1, ["fast_sampled"], samples=2).lines())
    assert [(line["sample"], line["words"]) for line in lines["fast_sampled"]] == [(0, ["happy"]), (1, ["happy"])]


def test_a_kill_between_the_two_lines_of_a_response_loses_none(twice, tmp_path):
    ask(twice(3), AnsweringTwice())
    fast = tmp_path / "fast.jsonl"
    whole = fast.read_bytes()
    fast.write_bytes(whole[: whole.rindex(b"{") + 9])
    assert twice(3).missing() == []
    assert fast.read_bytes() == whole
    (tmp_path / "slow.jsonl").write_bytes(b"")  # the fast lines without a slow one go
    assert len(twice(3).missing()) == 3
    assert fast.read_bytes() == b""


def test_failures_of_both_answers_are_forgotten_together(twice):
    rollout = AnsweringTwice()
    rollout.failing = {"clip_1"}
    found, _ = ask(twice(2), rollout)
    assert found["fast"][1]["failed"] == "clip_1: cannot be decoded"
    assert found["fast"][1]["f1"] == 0
    again = twice(2)
    assert again.forget_failures() == 1
    assert again.missing() == [("slow", 1, 0)]
    assert [line["name"] for line in dict(again.lines())["fast"]] == ["clip_0"]


def test_the_prompt_asks_for_the_form_and_the_shards_prompt_is_recorded(twice):
    from recipe.mer_r1.eval.rollout import asked as asked_row

    first = row() | {"prompt": [{"role": "user", "content": build_prompt("Hello.")}]}
    content = asked_row(first, TWO_ANSWERS)["prompt"][0]["content"]
    assert content == ask_for(TWO_ANSWERS, build_prompt("Hello.")) != first["prompt"][0]["content"]
    assert asked_row(first, ONE_ANSWER) is first
    with pytest.raises(ValueError, match="clip 'clip_1': the prompt does not end with the instruction"):
        asked_row(row(), TWO_ANSWERS)
    found, _ = ask(twice(1), AnsweringTwice())
    assert found["slow"][0]["prompt_sha256"] == sha256(row("clip_0")["prompt"])


def test_clips_that_cannot_be_asked_for_the_form_are_refused_before_a_model_is_loaded(twice):
    clips = twice(1).clips
    run.check_prompts(clips, ONE_ANSWER)
    with pytest.raises(ValueError, match="answer_think_answer cannot be used"):
        run.check_prompts(clips, TWO_ANSWERS)


def test_the_form_is_the_models_own_unless_another_is_given(tmp_path, capsys):
    model = tmp_path / "run" / "model"
    model.mkdir(parents=True)
    assert run.choose_form(str(model), None) == ONE_ANSWER
    assert run.choose_form(str(model), TWO_ANSWERS) == TWO_ANSWERS
    (tmp_path / "run" / "config.yaml").write_text(f"data: {{form: {TWO_ANSWERS}}}\n")
    capsys.readouterr()
    assert run.choose_form(str(model), None) == TWO_ANSWERS
    assert f"form: {TWO_ANSWERS} ({tmp_path / 'run' / 'config.yaml'})" in capsys.readouterr().out
    assert run.choose_form(str(model), ONE_ANSWER) == ONE_ANSWER
    assert f"but the model was trained with {TWO_ANSWERS}" in capsys.readouterr().out


def test_a_folder_that_names_no_form_has_the_default(tmp_path):
    records.claim(tmp_path, {"temperature": 0.0})
    records.claim(tmp_path, {"temperature": 0.0, "form": ONE_ANSWER})
    (tmp_path / records.SETTINGS).write_text('{"temperature": 0.0}')
    with pytest.raises(records.OtherSettingsError, match="form: think_answer there, answer_think_answer here"):
        records.claim(tmp_path, {"temperature": 0.0, "form": TWO_ANSWERS})
