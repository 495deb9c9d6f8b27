"""`--workers N`: dealing clips out, each worker's GPUs, joining answers after any end."""

import json
import textwrap

import psutil
import pytest
from omegaconf import OmegaConf
from test_eval_run import Answering, row

from recipe.mer_r1.eval import clip_sets, devices, generate, predict, records, run, worker, workers
from recipe.mer_r1.eval import counted as counted_module
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.pipeline.progress import Status
from recipe.mer_r1.run import output

MODES = ("slow", "fast_sampled")


@pytest.fixture
def made(tmp_path, builtin):
    """The answers to so many clips in a folder, as `main_eval run` begins or continues them."""

    def make(clips=5, folder="answers", modes=MODES):
        rows = [row(f"clip_{number}") for number in range(clips)]
        given = clip_sets.ClipSet(tmp_path / "shard.parquet", "mer_micro", "test", clips, "0", rows)
        (tmp_path / folder).mkdir(exist_ok=True)
        return generate.Generation(tmp_path / folder, given, modes, 0.0, 7, builtin, samples=2)

    return make


@pytest.fixture
def plan(tmp_path):
    preset = generate.load_preset("tiny", ["media.fps=1"])
    return workers.Plan("model", preset, 24, "think_answer", None, None, tmp_path / "logs")


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A program in a worker's place: `body` is run with `job`, the list `asked` of its first shard, and `write`."""

    def become(body):
        (tmp_path / "stand_in.py").write_text(
            textwrap.dedent(
                """
                import json, os, sys, time
                job = json.load(open(sys.argv[1]))
                first = job["shards"][0]
                asked = first["asked"]

                def write(mode, index, sample):
                    line = {"index": index, "sample": sample, "by": os.environ.get("CUDA_VISIBLE_DEVICES")}
                    with open(os.path.join(first["folder"], mode + ".jsonl"), "a") as file:
                        file.write(json.dumps(line) + "\\n")

                """
            )
            + textwrap.dedent(body)
        )
        monkeypatch.setattr(workers, "MODULE", "stand_in")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setattr(workers, "LOOK_SECONDS", 0.05)

    return become


def lines(folder, mode):
    return [(line["index"], line["sample"]) for line in map(json.loads, (folder / f"{mode}.jsonl").open())]


@pytest.mark.parametrize("number", [1, 2, 3, 7])
def test_clips_are_dealt_out_evenly_with_all_their_answers(number):
    shards = [
        [(mode, index, sample) for index in range(clips) for mode in MODES for sample in range(2)] for clips in (5, 4)
    ]
    dealt = workers.deal(shards, number)
    assert len(dealt) == number
    for at, asked in enumerate(shards):
        assert sorted(one for share in dealt for one in share[at]) == sorted(asked)
    clips = [{(at, one[1]) for at, part in enumerate(share) for one in part} for share in dealt]
    assert sum(map(len, clips)) == len(set().union(*clips)) == 9  # no clip is of two workers
    assert max(map(len, clips)) - min(map(len, clips)) <= 1


def test_no_worker_is_started_without_a_clip():
    assert workers.deal([[], [("slow", 3, 0), ("fast", 3, 0)]], 4) == [[[], [("slow", 3, 0), ("fast", 3, 0)]]]
    assert workers.deal([[]], 2) == []


@pytest.mark.parametrize(
    ("number", "each", "environment", "count", "expected"),
    [
        (2, 1, {}, 8, [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]),
        (2, 2, {}, 4, [{"CUDA_VISIBLE_DEVICES": "0,1"}, {"CUDA_VISIBLE_DEVICES": "2,3"}]),
        (1, 1, {"CUDA_VISIBLE_DEVICES": "GPU-5a, 3"}, 2, [{"CUDA_VISIBLE_DEVICES": "GPU-5a"}]),
        (2, 1, {"CUDA_VISIBLE_DEVICES": "6,3"}, 2, [{"CUDA_VISIBLE_DEVICES": "6"}, {"CUDA_VISIBLE_DEVICES": "3"}]),
        (1, 1, {"HIP_VISIBLE_DEVICES": "4"}, 1, [{"HIP_VISIBLE_DEVICES": "4"}]),
    ],
)
def test_workers_share_the_visible_gpus(number, each, environment, count, expected):
    assert devices.gpus(number, each, environment, lambda: count) == expected


@pytest.mark.parametrize(
    ("number", "each", "environment", "count", "says"),
    [
        (4, 1, {}, 2, "--workers 4 needs 4 GPUs, but 2 are visible. Give --workers 2."),
        (2, 2, {}, 3, "--workers 2 with rollout.tensor_parallel=2 needs 4 GPUs, but 3 are visible. Give --workers 1."),
        (
            2,
            1,
            {"CUDA_VISIBLE_DEVICES": "5,99"},  # no GPU has this number
            1,
            "2 GPUs, but 1 is visible (CUDA_VISIBLE_DEVICES=5,99). Give --workers 1, or name more GPUs in CUDA_VISIBLE",
        ),
        (2, 1, {"CUDA_VISIBLE_DEVICES": ""}, 0, "0 are visible (CUDA_VISIBLE_DEVICES=). Use a machine with GPUs, or"),
    ],
)
def test_too_few_gpus_are_named(number, each, environment, count, says):
    with pytest.raises(InputError) as caught:
        devices.gpus(number, each, environment, lambda: count)
    assert says in str(caught.value)


@pytest.mark.parametrize(("threads", "expected"), [(None, "1"), ("8", "4"), ("1", "1"), ("5,2", "2"), ("all", "1")])
def test_workers_on_a_cpu_share_the_threads(threads, expected, monkeypatch):
    if threads is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    found = devices.environments(2, OmegaConf.create({"device": "cpu"}))
    assert found == [{"OMP_NUM_THREADS": expected}] * 2


@pytest.mark.parametrize("command", [run, predict])
def test_workers_are_counted_before_a_clip_is_looked_at(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(devices, "_count", lambda: 1)
    monkeypatch.setattr(run.launch, "prepare_environment", lambda *_: None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in ("config.json", "model.safetensors", "tokenizer.json", "processor_config.json", "test.parquet"):
        (tmp_path / name).touch()
    given = ["--model", tmp_path, "--data", tmp_path / "test.parquet", "--out", tmp_path / "out", "--workers", "2"]
    with pytest.raises(SystemExit) as ended:
        command.app([*map(str, given), "--set", "device=cuda"])
    assert ended.value.code == 2
    assert "--workers 2 needs 2 GPUs, but 1 is visible." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_answers_of_workers_count_whatever_number_goes_on(made, tmp_path):
    """As after a kill of all processes: one answer in the folder, one of each worker, one of them cut off."""
    folder = made().folder
    first = Answering()
    whole = made(folder="whole")
    whole(first, lambda: None)
    kept = {mode: records.read(whole.files[mode]) for mode in MODES}
    records.append(folder / "slow.jsonl", [kept["slow"][3, 0]])
    for name, mode, key in (("worker-1-x", "slow", (2, 0)), ("worker-2-y", "fast_sampled", (0, 1))):
        (folder / name).mkdir()
        records.append(folder / name / f"{mode}.jsonl", [kept[mode][key]])
    with (folder / "worker-2-y" / "fast_sampled.jsonl").open("a") as file:
        file.write('{"index": 4, "sam')
    again = made(modes=("slow",))  # a mode that is not asked for now is kept, too
    assert lines(folder, "slow") == [(2, 0), (3, 0)]
    assert lines(folder, "fast_sampled") == [(0, 1)]
    assert not [*folder.glob("worker-*")]
    assert [one[1] for one in again.missing()] == [0, 1, 4]
    made()(Answering(), lambda: None)
    for mode in MODES:
        assert records.read(folder / f"{mode}.jsonl") == kept[mode]


def test_a_job_asks_what_one_process_would_ask(made, plan, tmp_path, monkeypatch):
    answers = made()
    whole = Answering()
    made(folder="whole")(whole, lambda: None)
    monkeypatch.setattr(worker, "_rows", lambda shard, root, woven: answers.clips.rows)
    asked = []
    for number, share in enumerate(workers.deal([answers.missing()], 2)):
        folder = answers.folder / f"worker-{number}"
        folder.mkdir()
        job = json.loads(json.dumps(plan.job([(answers, folder, share[0])])))
        assert (job["preset"]["device"], job["preset"]["media"]["fps"]) == ("cpu", 1)
        rollout = Answering()
        for part, given in worker.generations(job, False):
            part(rollout, lambda: None, given)
        asked += rollout.asked
    assert sorted(asked, key=repr) == sorted(whole.asked, key=repr)
    joined = made()
    assert joined.missing() == []
    for mode in MODES:
        assert records.read(joined.files[mode]) == records.read(tmp_path / "whole" / f"{mode}.jsonl")


def test_answers_are_joined_in_the_order_of_the_shard(made, plan, stand_in):
    stand_in("for one in reversed(asked): write(*one)")
    answers, seen = made(), []
    workers.answer([answers], plan, [{"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "6"}], seen.append)
    assert lines(answers.folder, "fast_sampled") == [(index, sample) for index in range(5) for sample in range(2)]
    found = [json.loads(line)["by"] for line in (answers.folder / "slow.jsonl").open()]
    assert found == ["4", "6", "4", "6", "4"]
    assert (seen[-1], answers.made, answers.missing()) == (15, 15, [])
    assert not [*answers.folder.glob("worker-*")]


def test_a_worker_that_dies_is_named_and_all_answers_stay(made, plan, stand_in, capsys):
    stand_in(
        """
        write(*asked[0])
        if asked[0][1] == 1:  # of the second worker
            sys.exit("CUDA error: no kernel image")
        for one in asked[1:]: write(*one)
        """
    )
    answers = made()
    with pytest.raises(workers.WorkerError) as caught:
        workers.answer([answers], plan, [{}, {"CUDA_VISIBLE_DEVICES": "1"}], lambda _: None)
    said = str(caught.value)
    assert said.startswith("worker-2 (GPU 1) ended with exit status 1 after 1 of 6 answers. 5 answers are missing, ")
    assert f"The end of {plan.logs / 'worker-2.log'}:" in said
    assert said.endswith("\n  CUDA error: no kernel image")
    assert (answers.made, len(answers.missing())) == (10, 5)
    log = plan.logs / "log.txt"  # as the screen tells it: once
    log.write_text(f"$ python -m x\nrecipe.mer_r1.eval.workers.WorkerError: {said}\n")
    shown = output.in_short(caught.value, log, "main_eval run")
    assert shown == [f"main_eval run: failed. WorkerError: {said}", f"Complete output: {log}"]
    assert "worker-2 (GPU 1) ended with exit status 1" in capsys.readouterr().err


def test_ctrl_c_ends_all_workers_and_keeps_their_answers(made, plan, stand_in):
    stand_in("write(*asked[0]); time.sleep(300)")
    answers = made()

    def tell(number):
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        workers.answer([answers], plan, [{}, {}], tell)
    assert lines(answers.folder, "slow") == [(0, 0), (1, 0)]
    below = [process for process in psutil.Process().children(recursive=True) if process.is_running()]
    assert not [each.pid for each in below if each.status() != psutil.STATUS_ZOMBIE and "stand_in" in each.cmdline()]


def test_the_rate_is_that_of_the_answers_and_not_of_loading(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(counted_module.time, "monotonic", lambda: now[0])
    counted = counted_module.Counted()
    counted.doing = "loading"
    counted.of_workers(20, 4, 0)
    assert counted.status() == Status(text="loading", phase="loading")
    counted.of_workers(20, 4, 2)
    now[0] += 3
    counted.of_workers(20, 4, 8)
    assert counted.status() == Status(12, 20, "12/20 answers  2.0 per s  4 s left", phase="answers")
