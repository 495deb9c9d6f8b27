"""The commands of README.md and docs/ work as they are written: the environment is switched on, the modules exist."""

import re
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def test_pages_call_python_in_one_way_after_the_environment_is_switched_on():
    start = (ROOT / "README.md").read_text()
    first = start.index("source .venv/bin/activate")
    assert start.index("make setup") < first < start.index("python -m")
    assert [page.name for page in PAGES if re.search(r"\.venv/bin/(python|pip|uv) ", page.read_text())] == []


def test_each_module_of_ours_that_a_page_runs_exists():
    named = {
        name
        for page in PAGES
        for name in re.findall(r"python -m ((?:data_prep|recipe|verl_ext)[\w.]*\w)", page.read_text())
    }
    assert len(named) > 15
    assert [name for name in sorted(named) if not find_spec(name)] == []
