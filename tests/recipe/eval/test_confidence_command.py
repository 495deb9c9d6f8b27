"""`main_eval confidence`: what it refuses without a model, and what a real one's files hold."""

import json

import pytest
from confidence_cases import meta, sure
from result_cases import write_answers

from recipe.mer_r1 import main_eval
from recipe.mer_r1.eval import generate, records, run
from recipe.mer_r1.eval.clip_sets import load_clip_sets
from recipe.mer_r1.eval.confidence_files import claim, confidence_path
from recipe.mer_r1.eval.fingerprints import weights_sha256
from recipe.mer_r1.method.answer import FAST_PREFIX
from recipe.mer_r1.method.wheel import EmotionWheels

CLIPS = 3
WORDS = ("happy, sad", "angry", "")


@pytest.fixture
def answers(tmp_path):
    def make(corpus="ov_merd_plus", **changes):
        return write_answers(tmp_path / "answers", corpus, model=tmp_path / "model", **changes)

    return make


@pytest.fixture
def complaint(capsys):
    """What the command says of folders that it refuses."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main_eval.main(["confidence", *map(str, arguments)])
        assert stopped.value.code == 2
        return capsys.readouterr().err

    return run


def test_what_cannot_be_read_is_named_before_a_model_is_loaded(answers, complaint, tmp_path):
    assert f"{tmp_path / 'none'}: no such folder" in complaint(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert "no such preset; use one of" in complaint(answers(), "--preset", "huge")


def test_a_folder_that_another_process_writes_to_is_left_alone(answers, complaint):
    """Two processes would compute the same clips twice, and the first's line that is being written would be cut off."""
    folder = answers()
    path = confidence_path(folder / "slow.jsonl")
    path.write_text('{"index": 0, "own"')
    with records.alone(folder):
        assert f"{folder}: another `main_eval` command writes to this folder" in complaint(folder)
    assert path.read_text() == '{"index": 0, "own"'


def test_another_model_is_refused(answers, complaint, tmp_path):
    folder = answers()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"trained anew")
    assert f"the weights of {tmp_path / 'model'} are missing or are not those that answered" in complaint(folder)


def test_a_corpus_without_emotions_is_refused(answers, complaint):
    assert "clips of mosi have no emotion categories" in complaint(answers("mosi"))


def test_sampled_answers_alone_are_refused(answers, complaint):
    assert "has no slow.jsonl or fast.jsonl" in complaint(answers(modes=("slow_sampled",)))


@pytest.fixture
def real(tiny_model, micro_corpus, tmp_path):
    """A folder of answers to clips of MER-Micro's test shard, its model a tiny one."""
    shard, folder = micro_corpus / "shards" / "test.parquet", tmp_path / "real"
    given = ["--model", str(tiny_model), "--data", str(shard), "--out", str(folder)]
    wheels, preset = EmotionWheels.builtin(), generate.load_preset("tiny", [])
    (clips,) = load_clip_sets([shard], None, False, CLIPS)
    weights = weights_sha256(tiny_model)
    chosen = generate.settings(run.parser("x").parse_args(given), preset, wheels.identity, weights, clips)
    records.claim(folder, chosen)
    rows = clips.rows
    for mode, beginning in (("slow", "<think>A smile.</think><answer>"), ("fast", FAST_PREFIX)):
        for index, words in enumerate(WORDS):
            line = records.record(rows[index], index, f"{beginning}{words}</answer>", wheels)
            records.append(folder / f"{mode}.jsonl", [line | {"tokens": 400, "finished": True}])
    return folder


@pytest.mark.seam
def test_a_real_models_confidences_are_written_and_a_cut_off_file_goes_on(real, tiny_model, micro_corpus, capsys):
    from recipe.mer_r1.eval.category_confidence import ConfidenceReader

    main_eval.main(["confidence", str(real)])
    printed = capsys.readouterr().out
    assert f"{real}: confidences of {2 * CLIPS} answers computed, 0 were there already" in printed
    assert f"for {2 * CLIPS} answers the sampled tokens differ from the tokenizer's tokens" in printed
    written = {mode: confidence_path(real / f"{mode}.jsonl").read_bytes() for mode in ("slow", "fast")}
    slow, fast = ([json.loads(line) for line in text.splitlines()] for text in written.values())
    assert [line["index"] for line in slow] == [line["index"] for line in fast] == [0, 1, 2]
    assert [line["own"] == line["emptied"] for line in slow] == [False, False, True]
    assert all(line["own"] == line["emptied"] for line in fast)
    assert slow[2]["own"] == {"truth": None, "negatives": None, "margin": None}
    assert slow[0]["emptied"]["truth"] == pytest.approx(fast[0]["own"]["truth"], abs=1e-4)
    reader = ConfidenceReader(str(tiny_model), generate.load_preset("tiny", []), EmotionWheels.builtin())
    row = load_clip_sets([micro_corpus / "shards" / "test.parquet"], None, False, 1)[0].rows[0]
    found = reader(row, f"<think>A smile.</think><answer>{WORDS[0]}</answer>")
    assert slow[0]["own"]["truth"] == pytest.approx(found.own.truth, abs=1e-5)
    assert slow[0]["own"]["margin"] == pytest.approx(found.own.margin, abs=1e-5)

    confidence_path(real / "slow.jsonl").write_bytes(written["slow"][:-7])
    main_eval.main(["confidence", str(real)])
    assert f"{real}: confidences of 1 answers computed, {2 * CLIPS - 1} were there already" in capsys.readouterr().out
    assert confidence_path(real / "slow.jsonl").read_bytes() == written["slow"]
    main_eval.main(["confidence", str(real)])
    assert f"{real}: the confidences of all {2 * CLIPS} answers are there already" in capsys.readouterr().out


@pytest.mark.seam
def test_files_of_other_settings_or_answers_do_not_go_on(real, complaint):
    claim(real / "slow.jsonl", meta(real, floor=-10.0))
    assert "was computed with other settings (reading: " in complaint(real)
    sure(real, "fast", [-1.0], floor=-10.0)
    answers = real / "fast.jsonl"
    answers.write_text(answers.read_text().replace("happy", "joyful", 1))
    assert "has changed" in complaint(real, "--floor", "-10")
