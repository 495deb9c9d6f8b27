"""Every reader on a made folder in its corpus's published layout."""

import shutil

import corpora
import pytest

from data_prep import readers, rows
from data_prep.build import build
from data_prep.check.decode import inspect
from data_prep.options import Options
from data_prep.places import Root

NAMES = readers.NAMES


@pytest.fixture(params=NAMES)
def made(request, tmp_path):
    """Reader, folder and what should be found."""
    return readers.get(request.param), tmp_path, corpora.make(request.param, tmp_path)


def test_every_corpus_of_the_paper_has_a_reader():
    benchmark = {"mer2023", "mer2024", "meld", "iemocap", "mosi", "mosei", "sims", "simsv2", "ov_merd_plus"}
    mer2025 = {"mer2025_ov", "mer2025_ovmerd", "mer2025_candidates"}
    mer2026 = {"mer2026", "mer2026_human", "mer2026_candidates"}
    assert set(NAMES) == benchmark | mer2025 | mer2026 | {"mer_caption_plus", "mme_emotion", "micro"}
    for name in NAMES:
        assert readers.get(name).name == name
    for shared in ("merbench", "mer_challenge"):
        with pytest.raises(KeyError):
            readers.get(shared)


def test_clips_are_what_the_corpus_says(made):
    reader, folder, expected = made
    clips = list(reader.clips(Root(folder)))
    good = {clip.name: clip for clip in clips if not clip.faults}
    assert {name: clip.labels for name, clip in good.items()} == expected.labels
    assert list(good) == list(expected.labels), "in the label file's order"
    bad = {clip.name: tuple(fault.kind for fault in clip.faults) for clip in clips if clip.faults}
    assert bad == expected.faults
    for name, clip in good.items():
        assert clip.video.is_relative_to(folder)
        assert not inspect(clip.video, "video", corpora.RATE).fault
        assert not inspect(clip.audio or clip.video, "audio", corpora.RATE).fault
        assert clip.subtitle == expected.subtitles.get(name, clip.subtitle)
        assert clip.reason == expected.reasons.get(name, clip.reason)
        assert clip.value == expected.values.get(name)
        assert clip.options == expected.options.get(name, ())
    for name, path in expected.videos.items():
        assert good[name].video == folder / path
    for name, group in expected.groups.items():
        assert good[name].group == group


def test_every_fault_names_its_place_and_the_way_out(made):
    reader, folder, _ = made
    for clip in reader.clips(Root(folder)):
        for fault in clip.faults:
            assert fault.name == clip.name
            assert str(folder) in fault.message
            assert clip.name in fault.message or "row" in fault.message
            assert any(way in fault.message for way in ("fix", "fill", "add", "remove", "rename", "save"))


def test_shards_are_built_from_it(made, tmp_path_factory):
    reader, folder, expected = made
    out = tmp_path_factory.mktemp("out")
    manifest = build(reader, Root(folder), out, Options(on_bad="skip"))
    found = [
        row
        for split in manifest["rows"]
        if split != "test" or not reader.training
        for row in rows.read(out / f"{split}.parquet")
    ]
    kept = {name: labels for name, labels in expected.labels.items() if not (reader.training and labels == ("table",))}
    assert {row["extra_info"]["name"]: tuple(row["reward_model"]["ground_truth"]) for row in found} == kept
    assert manifest["published"] == reader.published
    for row in found:
        assert all((folder / path).is_file() for path in row["videos"] + row["audios"])
        content = row["prompt"][0]["content"]
        assert content.count("<video>") == content.count("<audio>") == 1
        assert ("Choose among: fear, disgust, anger." in content) == bool(row["extra_info"]["options"])


@pytest.mark.parametrize(
    ("name", "published", "scored"),
    [
        ("iemocap", 1241, 857),
        ("meld", 2610, 1354),
        ("mer2023", 411, 323),
        ("mer2024", 1169, None),
        ("mer2025_candidates", 20_000, None),
        ("mer2025_ov", 1200, None),
        ("mer2025_ovmerd", 332, None),
        ("mer2026", 31_327, None),
        ("mer2026_candidates", 20_000, None),
        ("mer2026_human", 1532, None),
        ("mer_caption_plus", 31_327, None),
        ("micro", None, None),
        ("mme_emotion", 6500, None),
        ("mosei", 4659, 3634),
        ("mosi", 686, 656),
        ("ov_merd_plus", 532, None),
        ("sims", 457, 388),
        ("simsv2", 1034, 911),
    ],
)
def test_published_counts(name, published, scored):
    reader = readers.get(name)
    assert (reader.published, reader.scored) == (published, scored)
    assert reader.training == (name in ("mer_caption_plus", "mer2025_ovmerd", "mer2026", "micro"))
    assert reader.labelled != (name in ("mer2025_candidates", "mer2026_candidates"))
    assert reader.may_train == (name in ("mer2025_ov", "mer2026_human"))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("micro", "mme_emotion")])
def test_the_sets_own_folder_can_be_the_root(name, tmp_path):
    expected = corpora.make(name, tmp_path)
    (folder,) = tmp_path.iterdir()
    clips = list(readers.get(name).clips(Root(folder)))
    assert {clip.name: clip.labels for clip in clips if not clip.faults} == expected.labels


def test_a_question_in_two_tasks_is_two_clips(tmp_path):
    corpora.make("mme_emotion", tmp_path)
    clips = [clip for clip in readers.get("mme_emotion").clips(Root(tmp_path)) if clip.name.endswith("00000.mp4")]
    assert [clip.group for clip in clips] == ["ER-Lab", "SA"]
    assert not any(clip.faults for clip in clips)


def test_a_missing_video_of_a_test_set_is_a_fault(tmp_path):
    corpora.make("mer2023", tmp_path)
    shutil.rmtree(tmp_path / "mer2023-dataset-process" / "video")
    (tmp_path / "mer2023-dataset-process" / "video").mkdir()
    faults = [fault for clip in readers.get("mer2023").clips(Root(tmp_path)) for fault in clip.faults]
    assert {fault.kind for fault in faults} == {"video_missing"}
    assert ".mp4 or " in faults[0].message
