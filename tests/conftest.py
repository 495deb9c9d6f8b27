"""Fixtures that every test may use: a small MER-Micro and a tiny Thinker, each made once a session."""

import os
import signal
from pathlib import Path

# Read by torch, verl and vLLM at import; what the caller has set wins.
for _name, _value in {
    "VERL_PLATFORM": "cpu",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "SAGEMAKER_CONTAINER_LOG_LEVEL": "WARNING",
    "RAY_USAGE_STATS_ENABLED": "0",
}.items():
    os.environ.setdefault(_name, _value)

import pytest  # noqa: E402
from made_once import made_once  # noqa: E402

# A shell starts its background jobs with Ctrl-C ignored, and so would be what the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

CLIPS, TEST_CLIPS, SFT_CLIPS = 24, 8, 12
# Files that two processes share out: end-to-end runs first and of those the longest, so that neither process is left
# alone at the end; then what starts real libraries; pure logic last.
LONGEST = (
    "test_resume.py",
    "test_demo.py",
    "test_slurm.py",
    "test_rehearse.py",
    "test_rl_run.py",
    "test_separate_async.py",
    "test_notebook_run.py",
    "test_mer_r1.py",
    "test_main_sft.py",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole files in order of their time (``make test`` hands them out in this order)."""
    seams = {item.path for item in items if item.get_closest_marker("seam") or item.get_closest_marker("slow")}

    def rank(item: pytest.Item) -> tuple[int, int]:
        if item.get_closest_marker("e2e"):
            return 0, LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST)
        return (1, 0) if item.path in seams else (2, 0)

    items.sort(key=rank)


@pytest.fixture(scope="session", autouse=True)
def _quick_compose():
    from quick_compose import quick_compose

    with quick_compose():
        yield


@pytest.fixture(scope="session")
def micro_corpus(tmp_path_factory):
    """MER-Micro with 24 training and 8 test clips: ``train/``, ``test/``, ``shards/{sft,rl,test}.parquet``."""
    from data_prep.micro.build import build

    sizes = {"clips": CLIPS, "test_clips": TEST_CLIPS, "sft": SFT_CLIPS}
    # One voice everywhere: clips are the same with and without espeak-ng.
    return made_once(
        tmp_path_factory, "corpus", lambda out: build(out, **sizes, generator=1, seed=0, voice="tones", workers=2)
    )


@pytest.fixture(scope="session")
def tiny_model(micro_corpus, tmp_path_factory):
    """A random Thinker of a million parameters with the corpus' tokenizer: a full-Omni checkpoint folder."""

    def make(out: Path) -> None:
        from verl_ext.models import tiny

        assert tiny.main(["--shards", str(micro_corpus / "shards" / "sft.parquet"), "--out", str(out)]) == 0

    return made_once(tmp_path_factory, "tiny_model", make)


@pytest.fixture(scope="session")
def qwen():
    """Qwen2.5-Omni's tokenizer."""
    from verl_ext.models.qwen_tokenizer import VocabularyError, qwen_tokenizer

    try:
        return qwen_tokenizer()
    except VocabularyError as error:
        pytest.skip(str(error))
