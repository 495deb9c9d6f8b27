"""`main_eval predict`: parts, merging, completeness, and the files that the organisers' server takes."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_eval_run import Answering, row

from recipe.mer_r1.eval import clip_sets, generate, predict, records, submission
from recipe.mer_r1.eval.submission import IncompleteError
from recipe.mer_r1.files.labels import Source, read

NAMES = [f"clip_{number}" for number in range(7)]


@pytest.fixture
def shard(tmp_path):
    """Candidates as `data_prep build` writes them; rows have no labels."""
    path = tmp_path / "shards" / "candidates.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"extra_info": [{"name": name} for name in NAMES]}), path)
    return path


@pytest.fixture
def answer(tmp_path, shard, builtin):
    """Answer one part into OUT, as `predict` does, with a stand-in for vLLM; `kept` rows of it alone."""

    def make(number, count, *, kept=None, failing=(), mode="slow", **changes):
        folder = tmp_path / "submission" / f"part-{number}-of-{count}"
        about = {
            "shard": str(shard), "model": "m", "media_root": None, "corpus": "mer2026_candidates", "seed": 0,
            "n_shard": len(NAMES), "mode": mode, "part": f"{number}/{count}", **changes,
        }  # fmt: skip
        records.claim(folder, about)
        rows = [row(name, labels=()) for name in NAMES]
        clips = clip_sets.ClipSet(shard, "mer2026_candidates", "candidates", len(NAMES), "0", rows)
        part = predict.part_rows(len(NAMES), number, count)[:kept]
        made = generate.Generation(folder, clips, [mode], 0.0, 0, builtin, part=part)
        rollout = Answering()
        rollout.failing = {*failing}
        made(rollout, lambda: None)
        return [(request.row["extra_info"]["name"], request.seed) for request in rollout.asked]

    return make


def run(*arguments, code=0):
    if not code:
        return predict.app([str(argument) for argument in arguments])
    with pytest.raises(SystemExit) as ended:
        predict.app([str(argument) for argument in arguments])
    assert ended.value.code == code
    return None


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_parts_share_the_rows_and_change_no_question(answer, count, tmp_path):
    whole = [(name, 4 * index) for index, name in enumerate(NAMES)]
    assert [asked for number in range(1, count + 1) for asked in answer(number, count)] == whole
    sizes = [len(predict.part_rows(len(NAMES), number, count)) for number in range(1, count + 1)]
    assert max(sizes) - min(sizes) <= 1
    with pytest.raises(ValueError, match="too few for 8 parts"):
        predict.part_rows(len(NAMES), 1, 8)


def test_merged_parts_are_a_submission(answer, tmp_path, capsys):
    out = tmp_path / "submission"
    answer(1, 2)
    assert "complete parts: 1/2; when all 2 are complete, run" in predict._next_step(out, 2)
    answer(2, 2)
    assert "all 2 parts are complete; now run: main_eval predict --merge" in predict._next_step(out, 2)
    run("--merge", "--out", out)
    printed = capsys.readouterr().out
    assert "complete: 7 candidates, each once; 1.0 words per answer on average" in printed
    assert "note: 7 candidates; the published list of mer2026_candidates has 20,000" in printed
    saved = np.load(out / "submission-openset.npz", allow_pickle=False)  # as the organisers' code loads it
    assert sorted(saved.files) == ["fileitems", "filenames"]
    assert (saved["filenames"].dtype.kind, saved["fileitems"].dtype.kind) == ("U", "U")
    assert saved["filenames"].tolist() == NAMES
    assert saved["fileitems"].tolist() == ["[happy]"] * 7
    with (out / "submission.csv").open(encoding="utf-8", newline="") as stream:
        assert [*csv.reader(stream)] == [["name", "openset"], *([name, "[happy]"] for name in NAMES)]
    about = json.loads((out / "submission.json").read_bytes())
    assert (about["candidates"], about["empty"], about["filled"], about["parts"]) == (7, 0, [], 2)
    assert about["settings"]["mode"] == "slow"
    scored = read(Source(out / "submission-openset.npz", "words", predictions=True))
    assert scored == read(Source(out / "submission.csv", "words")) == {name: ["happy"] for name in NAMES}


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([(1, 3), (3, 3)], "no answers of part 2/3; run `predict --part`"),
        ([(1, 2), (2, 2, {"kept": 2})], "part-2-of-2: no answer to 2 of its candidates: 'clip_5', 'clip_6'; run"),
        ([(1, 1, {"failing": ["clip_3"]})], "1 candidate failed: 'clip_3' (the first: clip_3: cannot be decoded)"),
    ],
)
def test_what_is_not_complete_is_no_submission(answer, parts, says, tmp_path, capsys):
    for number, count, *options in parts:
        answer(number, count, **(options[0] if options else {}))
    run("--merge", "--out", tmp_path / "submission", code=1)
    assert says in capsys.readouterr().err
    assert not [*(tmp_path / "submission").glob("*.*")]


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([], "no answers here; `predict --part K/N"),
        ([(1, 2), (1, 3)], "answers of 2 and of 3 parts"),
        ([(1, 2), (2, 2, {"seed": 1})], "different settings (seed: 0, and 1)"),
        ([(1, 2), (2, 2, {"mode": "fast"})], "different settings (mode: slow, and fast)"),
        ([(1, 1, {"n_shard": 8})], "has 7 rows, but the parts are of 8"),
        ([(1, 1, {"shard": "/nowhere.parquet"})], "/nowhere.parquet: no such file; name the shard"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(answer, parts, says, tmp_path, capsys):
    for number, count, *options in parts:
        answer(number, count, **(options[0] if options else {}))
    run("--merge", "--out", tmp_path / "submission", code=2)
    assert says in capsys.readouterr().err


def test_candidates_that_were_left_out_of_the_shard_are_named_or_filled_in(answer, shard, tmp_path, capsys):
    answer(1, 1, failing=["clip_0"])
    lines = [{"name": name, "kind": "video_missing"} for name in ("gone", "gone", "clip_1")]  # clip_1: a row again
    (shard.parent / "left_out.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    out = tmp_path / "submission"
    run("--merge", "--out", out, code=1)
    said = capsys.readouterr().err
    assert "1 candidate failed: 'clip_0'" in said
    assert "1 candidate not in the shard: 'gone'" in said
    run("--merge", "--out", out, "--fill", "[neutral, calm]")
    saved = np.load(out / "submission-openset.npz")
    assert dict(zip(saved["filenames"].tolist(), saved["fileitems"].tolist(), strict=True)) == {
        "clip_0": "[neutral, calm]",
        **dict.fromkeys(NAMES[1:], "[happy]"),
        "gone": "[neutral, calm]",
    }
    run("--merge", "--out", out, "--fill", "")
    assert np.load(out / "submission-openset.npz")["fileitems"].tolist() == ["[]", *["[happy]"] * 6, "[]"]
    assert json.loads((out / "submission.json").read_bytes())["filled"] == ["clip_0", "gone"]


def test_the_organisers_list_decides_what_is_complete_and_its_order(answer, tmp_path, capsys):
    answer(1, 1)
    listed, out = tmp_path / "list.csv", tmp_path / "submission"
    listed.write_text("name,discrete\n" + "".join(f"{name},\n" for name in [*NAMES[::-1], "more"]), encoding="utf-8")
    run("--merge", "--out", out, "--names", listed, code=1)
    assert "1 candidate not in the shard: 'more'" in capsys.readouterr().err
    run("--merge", "--out", out, "--names", listed, "--fill", "")
    assert np.load(out / "submission-openset.npz")["filenames"].tolist() == [*NAMES[::-1], "more"]
    listed.write_text("name\nclip_0\nclip_0\n", encoding="utf-8")
    run("--merge", "--out", out, "--names", listed, code=1)
    assert "list.csv: more than one row of 1 candidate: 'clip_0'" in capsys.readouterr().err
    listed.write_text("".join(f"{name}\n" for name in ["name", *NAMES[:5]]), encoding="utf-8")
    run("--merge", "--out", out, "--names", listed, code=1)
    assert f"2 candidates of it are not in {listed}: 'clip_5', 'clip_6'" in capsys.readouterr().err


def test_names_that_repeat_in_the_shard_are_named(shard):
    names = [*NAMES, "clip_2", "clip_4"]
    with pytest.raises(IncompleteError, match="more than one row of 2 candidates: 'clip_2', 'clip_4'; keep one"):
        submission.candidates(shard, names, None)


def test_an_answer_of_another_row_is_not_taken():
    lines = [{"index": 0, "name": "b", "words": ["sad"]}, {"index": 1, "name": "a", "words": ["sad"]}]
    with pytest.raises(IncompleteError, match="the answer to 'b' is of row 0, which is 'a'"):
        submission.collect(lines, ["a", "b"], ["a", "b"], None)
    twice = [{"index": 0, "name": "a", "words": ["sad"]}] * 2
    with pytest.raises(IncompleteError, match="the candidate 'a' has more than one answer"):
        submission.collect(twice, ["a"], ["a"], None)
    with pytest.raises(IncompleteError, match="no answer to 1 candidate: 'b'"):
        submission.collect(twice[:1], ["a", "b"], ["a", "b"], None)


@pytest.mark.parametrize(
    ("words", "item"),
    [
        ([], "[]"),
        (["happy", "surprised"], "[happy, surprised]"),
        (["Happy", "sad", "happy"], "[Happy, sad]"),
        (["let\n down"], "[let down]"),
        (["[happy", "sad]"], "[[happy, sad]]"),
        (["高兴", "don’t care"], "[高兴, don’t care]"),
    ],
)
def test_an_item_is_read_back_by_the_list_rule(words, item, tmp_path):
    lines = [{"index": 0, "name": "00012", "words": words}]
    done = submission.collect(lines, ["00012"], ["00012"], None)
    npz, table, _ = submission.write(tmp_path / "mine", done, {})
    assert (npz.name, table.name) == ("mine-openset.npz", "mine.csv")
    assert np.load(npz)["fileitems"].tolist() == [item]
    assert read(Source(npz, "words", predictions=True)) == {"00012": [*done.answers["00012"]]}


@pytest.mark.parametrize("part", ["0/2", "3/2", "2", "a/b", "1/2/3", ""])
def test_a_part_is_a_number_of_a_number(part, capsys):
    run("--part", part, "--out", "x", code=2)
    assert "write K/N with K from 1 to N, e.g. 3/8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--temperature", "2.5"), "--temperature: 2.5: must be from 0 (greedy) to 2"),
        (("--max-tokens", "0"), "--max-tokens: invalid positive value: '0'"),
    ],
)
def test_options_that_vllm_would_refuse_are_refused_before_a_model_is_loaded(option, said, capsys):
    run(*option, "--out", "x", code=2)
    assert said in capsys.readouterr().err


@pytest.mark.seam
def test_the_command_answers_parts_of_a_real_shard(held, tiny_model, micro_corpus, tmp_path, monkeypatch, capsys):
    """All but vLLM: rows without labels are legal here, and nowhere else."""
    from recipe.mer_r1.eval import rollout
    from recipe.mer_r1.eval import run as evaluation

    table = pq.read_table(micro_corpus / "shards" / "test.parquet")
    rows = [{**entry, "reward_model": {"style": "rule", "ground_truth": []}} for entry in table.to_pylist()]
    shard, out, started = tmp_path / "candidates.parquet", tmp_path / "mine", []
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), shard)
    monkeypatch.setattr(rollout, "Rollout", lambda *about: started.append(about) or Answering())
    common = ("--model", tiny_model, "--data", shard, "--out", out)
    run(*common, "--part", "1/2")
    run(*common, code=2)
    assert "was begun in 2 parts, not in 1" in capsys.readouterr().err
    run(*common, "--part", "2/2")
    run(*common, "--part", "2/2")
    assert len(started) == 2, "what is complete loads no model"
    assert held, "every reading of answers was checked"
    run("--merge", "--out", out)
    names = [entry["extra_info"]["name"] for entry in rows]
    assert np.load(out / "mine-openset.npz")["filenames"].tolist() == names
    run(*common[:4], "--out", tmp_path / "whole", "--mode", "fast")
    assert np.load(tmp_path / "whole" / "whole-openset.npz")["filenames"].tolist() == names
    with pytest.raises(SystemExit) as ended:
        evaluation.app(["--model", str(tiny_model), "--data", str(shard), "--out", str(tmp_path / "run")])
    assert ended.value.code == 2
    assert "none of its rows has a label, so there is nothing to score" in capsys.readouterr().err


def test_model_and_shard_may_be_on_the_hub(shard, tmp_path, monkeypatch, capsys):
    brought = {"hf://me/model": str(tmp_path / "model"), "hf://datasets/me/clips/candidates.parquet": str(shard)}
    for name in ("local_model", "local_file"):
        monkeypatch.setattr(predict.hub, name, lambda path, key: brought[path])
    asked = []
    monkeypatch.setattr(predict, "check_model_folder", lambda path, key: asked.append(path))
    monkeypatch.setattr(predict.run, "choose_form", lambda *_: "think_answer")
    monkeypatch.setattr(predict.launch, "prepare_environment", lambda *_: None)

    def load(shards, *_):
        asked.extend(shards)
        raise ValueError("far enough")

    monkeypatch.setattr(predict, "load_clip_sets", load)
    model, data = brought
    run("--model", model, "--data", data, "--out", tmp_path / "out", code=2)
    assert asked == [str(tmp_path / "model"), shard]
    assert "left_out.jsonl beside the shard is not brought from the hub" in capsys.readouterr().out
