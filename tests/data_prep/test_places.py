"""Files of a corpus lie in its folder, or where the user allows links to lead."""

import corpora
import pytest
from one_clip import OPENSETS, SUBTITLES, add, faults, read

from data_prep import readers
from data_prep.clip import CorpusError
from data_prep.places import MediaFolder, Root


def test_links_out_of_the_root_are_refused_unless_allowed(corpus, tmp_path):
    outside = tmp_path / "disk" / "good.mp4"
    corpora.put(outside, corpora.mp4())
    (corpus / "video" / "good.mp4").unlink()
    (corpus / "video" / "good.mp4").symlink_to(outside)
    assert faults(corpus) == [("good", "outside_root")]
    assert faults(corpus, links_to=(tmp_path / "disk",)) == []


def test_a_media_folder_that_is_a_link_out_is_refused_unless_allowed(corpus, tmp_path):
    (corpus / "video").rename(tmp_path / "disk")
    (corpus / "video").symlink_to(tmp_path / "disk")
    with pytest.raises(CorpusError, match="--links-to"):
        read(corpus)
    assert faults(corpus, links_to=(tmp_path / "disk",)) == []


def test_a_folder_in_the_middle_of_a_name_may_not_lead_out(tmp_path):
    """MME-Emotion's names are paths."""
    corpora.make("mme_emotion", tmp_path / "root")
    (tmp_path / "root" / "MAFW" / "video").rename(tmp_path / "disk")
    (tmp_path / "root" / "MAFW" / "video").symlink_to(tmp_path / "disk")
    clips = list(readers.get("mme_emotion").clips(Root(tmp_path / "root")))
    assert {fault.kind for clip in clips for fault in clip.faults} == {"outside_root"}


def test_links_inside_the_root_are_fine(corpus):
    (corpus / "video" / "good.mp4").rename(corpus / "video" / "other.mp4")
    (corpus / "video" / "good.mp4").symlink_to("other.mp4")
    assert faults(corpus) == []


@pytest.mark.parametrize("relative", ["../x", "/etc", "a/../../x", "a\\b"])
def test_paths_in_a_declaration_stay_inside(relative, tmp_path):
    with pytest.raises(CorpusError, match="points outside"):
        Root(tmp_path).place(relative)


def test_an_archive_is_named_and_not_unpacked(corpus):
    (corpus / "video" / "good.mp4").unlink()
    (corpus / "video").rmdir()
    corpora.put(corpus / "video.zip", b"PK")
    with pytest.raises(CorpusError, match=r"unpack .*video\.zip"):
        read(corpus)
    with pytest.raises(CorpusError, match="--root"):
        MediaFolder("nowhere", (".mp4",)).at(Root(corpus))


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.7z"])
def test_an_archive_is_no_root(name, tmp_path):
    with pytest.raises(CorpusError, match="is an archive"):
        Root(tmp_path / name)
    corpora.put(tmp_path / name, b"PK")
    with pytest.raises(CorpusError, match="unpack it"):
        Root(tmp_path / name)


def test_a_folder_may_be_called_like_an_archive(tmp_path):
    (tmp_path / "release.tar").mkdir()
    assert Root(tmp_path / "release.tar").folder.is_dir()
    with pytest.raises(CorpusError, match="no such folder"):
        Root(tmp_path / "nowhere")


def test_what_is_missing_is_named_where_it_should_lie(corpus):
    """The same for both ways to give the root."""
    (corpus / SUBTITLES).unlink()
    for folder in (corpus, corpus.parent):
        with pytest.raises(CorpusError, match=f"^{corpus / SUBTITLES}: missing"):
            list(readers.get("mer_caption_plus").clips(Root(folder)))


def test_two_folders_are_never_mixed(corpus):
    """A table beside the corpus's folder is not taken for the one that is missing in it."""
    (corpus / SUBTITLES).rename(corpus.parent / SUBTITLES)
    with pytest.raises(CorpusError, match="missing"):
        read(corpus)


def test_a_renamed_folder_can_be_the_root(corpus, tmp_path):
    corpus.rename(tmp_path / "mer-caption")
    (clip,) = readers.get("mer_caption_plus").clips(Root(tmp_path / "mer-caption"))
    assert not clip.faults
    assert clip.video == tmp_path / "mer-caption" / "video" / "good.mp4"


def test_label_files_may_be_links_only_where_allowed(corpus, tmp_path):
    (tmp_path / "disk").mkdir()
    (corpus / OPENSETS).rename(tmp_path / "disk" / OPENSETS)
    (corpus / OPENSETS).symlink_to(tmp_path / "disk" / OPENSETS)
    with pytest.raises(CorpusError, match="--links-to"):
        read(corpus)
    assert faults(corpus, links_to=(tmp_path / "disk",)) == []


@pytest.mark.parametrize("target", ["/nowhere/good.mp4", "good.mp4"], ids=["to nothing", "to itself"])
def test_a_link_without_a_file_is_named_as_one(target, corpus):
    (corpus / "video" / "good.mp4").unlink()
    (corpus / "video" / "good.mp4").symlink_to(target)
    assert faults(corpus) == [("good", "video_missing")]
    (fault,) = (fault for clip in read(corpus) for fault in clip.faults)
    assert f"is a link to {target}, which does not exist" in fault.message


def test_a_name_too_long_for_a_file_costs_its_row_alone(corpus):
    add(corpus, OPENSETS, f"{'x' * 300},[sad]")
    add(corpus, SUBTITLES, f"{'x' * 300},,Words")
    assert faults(corpus) == [("x" * 300, "video_missing"), ("x" * 300, "audio_missing")]


def test_clips_of_mme_emotion_may_lie_in_their_tasks_folder(tmp_path):
    corpora.make("mme_emotion", tmp_path)
    (tmp_path / "SA" / "MAFW" / "video").mkdir(parents=True)
    (tmp_path / "MAFW" / "video" / "00005.mp4").rename(tmp_path / "SA" / "MAFW" / "video" / "00005.mp4")
    clips = list(readers.get("mme_emotion").clips(Root(tmp_path)))
    assert not [clip for clip in clips if clip.faults]
    assert tmp_path / "SA" / "MAFW" / "video" / "00005.mp4" in [clip.video for clip in clips]
