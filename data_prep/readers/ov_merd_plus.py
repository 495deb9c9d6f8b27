"""OV-MERD+: open-vocabulary labels, scored by EW; an empty list counts as neutral, which no wheel maps."""

from data_prep.labels import OpensetCsv
from data_prep.places import MediaFolder
from data_prep.reader import Reader
from data_prep.tables import TextTable

READER = Reader(
    name="ov_merd_plus",
    title="OV-MERD+ (MER-UniBench)",
    labels=OpensetCsv("ovmerdplus-process/ovlabel.csv", empty="neutral"),
    video=MediaFolder("ovmerdplus-process/video", (".mp4",)),
    audio=MediaFolder("ovmerdplus-process/audio", (".wav",)),
    subtitles=TextTable("ovmerdplus-process/subtitle_eng.csv", "sentence"),
    published=532,
)
