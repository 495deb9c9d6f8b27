"""`main_eval cases`: the page, and what is refused."""

import json
import re
from html.parser import HTMLParser

import pyarrow as pa
import pytest
from judge_cases import write_clip
from pyarrow import parquet
from result_cases import BUILTIN, LABELS, write_answers
from typer.testing import CliRunner

from recipe.mer_r1.eval import records
from recipe.mer_r1.eval.cases.command import app

# Rows: retention, suppression, recovery, none, labels that no wheel knows, an answer without a word.
TRUE = (["sad", "angry"], ["happy"], ["afraid"], ["happy"], ["neutral"], ["sad"])
BASELINE = {
    "slow": ("sad", "happy", "happy", "happy", "calm", ""),
    "fast": ("sad, angry", "happy, sad", "sad", "happy", "calm", "sad, angry"),
}
MER_R1 = {
    "slow": ("sad, angry", "happy", "scared", "happy", "calm", "sad"),
    "fast": ("sad, angry", "happy", "sad", "happy", "calm", "sad"),
}
NASTY = "<script>alert(1)</script><img src=x onerror=alert(2)> \x1b[31m {baseline}"


class Page(HTMLParser):
    """Tags, sources and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.words = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.words.append(data if self.lasttag != "style" else "")


def rows(folder):
    return [
        {
            "data_source": "ov_merd_plus",
            "prompt": [{"role": "user", "content": f"Subtitle: {NASTY}"}],
            "videos": [str(folder / f"clip_{index}.mp4")],
            "reward_model": {"style": "rule", "ground_truth": labels},
            "extra_info": {"name": f"clip_{index}", "split": "test", "subtitle": NASTY},
        }
        for index, labels in enumerate(TRUE)
    ]


def write_model(folder, model, words, thought="Because."):
    """A folder of one model's answers, with a shard of its own that names clips beside the folder."""
    assert len(TRUE) == len(LABELS)
    write_answers(folder, "ov_merd_plus", model=folder.parent / model)
    found = rows(folder.parent)
    shard = json.loads((folder / "settings.json").read_text())["shard"]
    parquet.write_table(pa.Table.from_pylist(found), shard)
    for mode, answers in words.items():
        (folder / f"{mode}.jsonl").unlink()
        for index, (row, answer) in enumerate(zip(found, answers, strict=True)):
            think = thought if mode == "slow" else ""
            line = records.record(row, index, f"<think>{think}</think><answer>{answer}</answer>", BUILTIN)
            records.append(folder / f"{mode}.jsonl", [line | {"tokens": 4, "finished": True}])
    return folder


@pytest.fixture
def cases(tmp_path):
    """Run the command; its result and the page's text, None where there is none."""
    for index in range(len(TRUE)):
        write_clip(tmp_path / f"clip_{index}.mp4")
    out = tmp_path / "out" / "cases.html"

    def run(*arguments):
        done = CliRunner().invoke(app, [*map(str, arguments), "--out", str(out)])
        return done, out.read_text(encoding="utf-8") if out.exists() else None

    return run


@pytest.fixture
def models(tmp_path):
    return write_model(tmp_path / "a", "one", BASELINE), write_model(tmp_path / "b", "two", MER_R1)


def shown(text):
    return " ".join("".join(Page(text).words).split())


def test_a_case_of_each_kind_with_its_frames(cases, models):
    done, text = cases(*models)
    assert done.exit_code == 0, done.output
    assert re.findall(r"<h3>\d+\. (\w+)", text) == ["clip_0", "clip_1", "clip_2"]
    assert re.findall(r'<td class="n">(\d+)</td>', text) == ["1", "0", "1"] * 3
    assert all(source.startswith("data:image/jpeg;base64,") for source in Page(text).sources)
    assert len(Page(text).sources) == 3 * 4
    words = shown(text)
    assert (
        "Of 4 clips. Clips that cannot be a case because their labels are on no wheel: 1. Clips that cannot be a case "
        "because one of the four answers has no word: 1." in words
    )
    assert "Keptmad (w1 w3 w5); angry (w2); anger (w4)" in words
    assert "Fast thinking of Baseline names a true emotion" in words
    assert "Because." in words


def test_signs_tell_what_colours_do(cases, models):
    words = shown(cases(*models)[1])
    assert "Baseline, slow thinkingBecause.✓ sad○ angry" in words
    assert "Baseline, fast thinking✓ happy✗ sad" in words


def test_the_page_is_the_same_each_time(cases, models):
    assert cases(*models)[1] == cases(*models)[1]


def test_models_text_is_only_text(cases, models, tmp_path):
    write_model(tmp_path / "c", "three", MER_R1, thought=NASTY)
    done, text = cases(f"<i>{{x}}={models[0]}", tmp_path / "c")
    assert done.exit_code == 0, done.output
    assert not {"script", "i"} & Page(text).tags
    assert "\x1b" not in text
    # Each case's subtitle and thought.
    assert shown(text).count("<script>alert(1)</script><img src=x onerror=alert(2)> ␛[31m {baseline}") == 6
    assert "Fast thinking of <i>{x} names" in shown(text)


def test_an_ill_formed_response_is_shown_whole(cases, models):
    path = models[0] / "slow.jsonl"
    first, *others = path.read_text().splitlines(keepends=True)
    path.write_text(first.replace("<think>Because.</think>", "No tags. ") + "".join(others))
    assert "≈ ill-formed, shown whole" in shown(cases(*models)[1])
    assert "No tags. <answer>sad</answer>" in shown(cases(*models)[1])


def test_a_clip_that_is_gone_leaves_its_place(cases, models, tmp_path):
    (tmp_path / "clip_1.mp4").unlink()
    (tmp_path / "clip_2.mp4").write_bytes(b"no film")
    done, text = cases(*models)
    assert done.exit_code == 0
    assert "2 of 3 clips have no picture on the page" in done.output
    assert len(Page(text).sources) == 4
    assert [re.search(r"clip_\d", why)[0] for why in re.findall(r"No picture: (.*?)</p>", text)] == ["clip_1", "clip_2"]


def test_kinds_without_a_case_say_so(cases, models):
    done, text = cases(models[1], f"other={models[1]}")
    assert done.exit_code == 0
    assert shown(text).count("None of the 5 clips is such a case.") == 2


def test_count_limits_each_kind(cases, tmp_path):
    words = {mode: ("sad",) * len(TRUE) for mode in ("slow", "fast")}
    right = {mode: tuple(", ".join(labels) for labels in TRUE) for mode in ("slow", "fast")}
    folders = write_model(tmp_path / "a", "one", words), write_model(tmp_path / "b", "two", right)
    for count in (1, 2):
        assert cases(*folders, "--count", count)[1].count('class="case"') == count


def rewrite(path, change):
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def test_other_settings_clips_or_labels_are_refused(cases, models):
    done, _ = cases(*models)
    assert done.exit_code == 0
    settings = models[1] / "settings.json"
    rewrite(settings, lambda found: found | {"max_tokens": 9})
    done, _ = cases(*models)
    assert done.exit_code == 2
    assert "max_tokens: 64 and 9" in done.output
    rewrite(settings, lambda found: found | {"max_tokens": 64})
    for mode in ("slow", "fast"):
        path = models[1] / f"{mode}.jsonl"
        path.write_text(path.read_text().replace('"labels": ["afraid"]', '"labels": ["angry"]'))
    done, _ = cases(*models)
    assert done.exit_code == 2
    assert "row 2: 'clip_2' with labels ['afraid']" in done.output
    for mode in ("slow", "fast"):
        path = models[1] / f"{mode}.jsonl"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    done, text = cases(*models)
    assert done.exit_code == 2
    assert "n: 6 and 5; sample names" in done.output
    assert text  # of the first run, untouched


def test_both_forms_of_both_models_are_needed(cases, models):
    (models[1] / "fast.jsonl").unlink()
    done, text = cases(*models)
    assert (done.exit_code, text) == (2, None)
    assert f"{models[1]}: has no fast answers" in done.output


def test_a_shard_of_other_clips_is_refused(cases, models, tmp_path):
    other = rows(tmp_path)
    other[1]["extra_info"]["name"] = "another"
    parquet.write_table(pa.Table.from_pylist(other), tmp_path / "other.parquet")
    done, _ = cases(*models, "--shard", tmp_path / "other.parquet")
    assert done.exit_code == 2
    assert "other.parquet, row 1: this is not the clip 'clip_1'" in done.output
    done, _ = cases(*models, "--shard", tmp_path / "none.parquet")
    assert done.exit_code == 2
    assert "none.parquet: no such shard" in done.output


def test_names_must_differ_and_out_is_a_file(cases, models, tmp_path):
    done, _ = cases(f"x={models[0]}", f"x={models[1]}")
    assert done.exit_code == 2
    assert "both models have the name 'x'" in done.output
    done = CliRunner().invoke(app, [*map(str, models), "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "is a folder; give a file" in done.output
