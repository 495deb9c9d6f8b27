"""What the tests of data_prep share."""

from pathlib import Path

import one_clip
import pytest


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """MER-Caption+ with one good clip, "good"; its own folder."""
    return one_clip.make(tmp_path / "root")
