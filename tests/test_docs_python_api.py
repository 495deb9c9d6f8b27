"""docs/python_api.md: every example runs as it stands, and prints what the page shows."""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recipe.mer_r1.run import launch

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "python_api.md").read_text(encoding="utf-8")
FILES = re.findall(r"^`(\S+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.S | re.M)
EXAMPLES = re.findall(r"^## (.*?)\n.*?^```python\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?", PAGE, re.S | re.M)
*PRINTED, (MODEL_TITLE, MODEL_CODE, _) = EXAMPLES


def test_the_page_has_five_short_examples():
    assert len(EXAMPLES) == PAGE.count("```python") == PAGE.count("\n## ") == 5
    assert all(len(code.splitlines()) <= 15 for _, code, _ in EXAMPLES)


@pytest.mark.parametrize(("title", "code", "output"), PRINTED, ids=[title for title, _, _ in PRINTED])
def test_an_example_prints_what_the_page_shows(title, code, output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in FILES:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(content, encoding="utf-8")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, title, "exec", dont_inherit=True), {"__name__": "__main__"})
    assert printed.getvalue() == output


@pytest.mark.seam
def test_the_model_answers_slow_and_fast(tiny_model, micro_corpus, tmp_path):
    """In a process of its own: the example sets what vLLM reads at import. The model is random, so are the words."""
    from verl_ext.data.dataset import load_shard

    folder, clip = (re.search(pattern, MODEL_CODE)[1] for pattern in (r'open_model\("(.*?)"', r'Path\("(.*?)"\)'))
    (tmp_path / folder).parent.mkdir(parents=True)
    (tmp_path / folder).symlink_to(tiny_model)
    shutil.copyfile(load_shard(micro_corpus / "shards" / "test.parquet")[0]["videos"][0], tmp_path / clip)
    settings = launch.ENVIRONMENT | launch.CPU_ENVIRONMENT
    without_settings = {name: value for name, value in os.environ.items() if name not in settings}
    done = subprocess.run(
        [sys.executable, "-c", MODEL_CODE],
        cwd=tmp_path,
        env={**without_settings, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"^slow \[.*?\] .*^fast \[.*?\] <think></think><answer>", done.stdout, re.S | re.M), done.stdout
