"""Fixtures that every test may use: a small MER-Micro and a tiny Thinker, each made once a session."""

import os
import signal

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
    "RAY_USAGE_STATS_ENABLED": "0",
}.items():
    os.environ.setdefault(_name, _value)

import pytest  # noqa: E402

# A shell starts its background jobs with Ctrl-C ignored, and so would be what the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

CLIPS, TEST_CLIPS, SFT_CLIPS = 24, 8, 12


@pytest.fixture(scope="session")
def micro_corpus(tmp_path_factory):
    """MER-Micro with 24 training and 8 test clips: ``train/``, ``test/``, ``shards/{sft,rl,test}.parquet``."""
    from data_prep.micro.build import build

    out = tmp_path_factory.mktemp("micro") / "corpus"
    # One voice everywhere: clips are the same with and without espeak-ng.
    build(out, clips=CLIPS, test_clips=TEST_CLIPS, seed=0, sft=SFT_CLIPS, voice="tones", workers=2)
    return out


@pytest.fixture(scope="session")
def tiny_model(micro_corpus, tmp_path_factory):
    """A random Thinker of a million parameters with the corpus' tokenizer: a full-Omni checkpoint folder."""
    from verl_ext.models import tiny

    out = tmp_path_factory.mktemp("tiny") / "model"
    assert tiny.main(["--shards", str(micro_corpus / "shards" / "sft.parquet"), "--out", str(out)]) == 0
    return out
