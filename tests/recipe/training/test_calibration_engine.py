"""Slow-fast confidence, through verl's engine, against the reference in plain transformers (1e-4 in fp32)."""

import math
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "verl_ext")]

import calibration_cases  # noqa: E402
import reference  # noqa: E402
from omni_cases import sharpened  # noqa: E402
from ranks import run_ranks  # noqa: E402

from recipe.mer_r1.method.alignment import align  # noqa: E402
from recipe.mer_r1.method.answer import FAST_PREFIX  # noqa: E402
from recipe.mer_r1.method.confidence import calibrate  # noqa: E402
from recipe.mer_r1.method.token_sets import category_sets  # noqa: E402
from recipe.mer_r1.method.wheel import EmotionWheels  # noqa: E402

pytestmark = pytest.mark.seam

LIMIT = 1e-4
SIGNALS = ("calib_pos", "calib_neg", "calib_pos_word", "calib_neg_word")


@pytest.fixture(scope="module")
def wheels():
    return EmotionWheels.builtin()


@pytest.fixture(scope="module")
def processor(tiny_model):
    from transformers import AutoConfig, AutoProcessor

    from verl_ext.models.processor import bind

    return bind(AutoProcessor.from_pretrained(tiny_model), AutoConfig.from_pretrained(tiny_model))


@pytest.fixture(scope="module")
def model(tiny_model, tmp_path_factory):
    """A folder with weights under which thoughts and media matter to the answer."""
    import shutil

    from safetensors.torch import load_file, save_file

    out = tmp_path_factory.mktemp("sharp") / "model"
    shutil.copytree(tiny_model, out)
    weights = sharpened(load_file(out / "model.safetensors"))
    save_file(dict(weights), out / "model.safetensors", metadata={"format": "pt"})
    return out


@pytest.fixture(scope="module")
def cases(processor, micro_corpus):
    from verl_ext.data.dataset import load_shard

    found = calibration_cases.build(processor, load_shard(micro_corpus / "shards" / "rl.parquet").to_list())
    return found[: len(found) // 4 * 4]  # whole micro-batches of two on two ranks


def sample_of(case, processor):
    """A response as the trainer hands it to the engine."""
    from verl_ext.models.rope import position_ids

    aligned = align(case.response, processor.tokenizer)
    placed = [word for word in aligned.words if word.slow is not None]
    ids = torch.tensor([*case.encoded.prompt_ids, *case.response])
    return {
        "input_ids": ids,
        "position_ids": position_ids(processor.rope, ids, case.encoded.inputs),
        "responses": torch.tensor(case.response),
        "branch_ids": torch.tensor(aligned.branch_ids if placed else case.response[:1]),
        "set_positions": torch.tensor([word.slow for word in placed] or [0]),
        "branch_set_positions": torch.tensor([word.fast for word in placed] or [0]),
        "multi_modal_inputs": case.encoded.inputs,
    }


@pytest.fixture(scope="module")
def found(cases, processor, wheels, model, tmp_path_factory):
    """Calibrations by number of ranks, in the order of the cases."""
    folder = tmp_path_factory.mktemp("calibration")
    sets = category_sets(wheels, processor.tokenizer)
    samples = [sample_of(case, processor) for case in cases]
    torch.save({"token_sets": sets.token_ids, "token_shares": sets.shares, "samples": samples}, folder / "cases.pt")
    result = {}
    for ranks in (1, 2):
        out = folder / str(ranks)
        out.mkdir()
        run_ranks("set_log_probs_rank.py", ranks, (model, folder / "cases.pt", out))
        parts = [torch.load(out / f"rank{rank}.pt", weights_only=False)["packed"] for rank in range(ranks)]
        rows = zip(
            cases,
            [row for part in parts for row in part["set_log_probs"]],
            [row for part in parts for row in part["branch_set_log_probs"]],
            strict=True,
        )
        result[ranks] = []
        for case, slow, fast in rows:
            words = align(case.response, processor.tokenizer).words
            count = sum(word.slow is not None for word in words)
            slow, fast = (values.view(-1, len(sets.names) + 1)[:count] for values in (slow, fast))
            result[ranks].append(calibrate(words, slow, fast, case.labels, wheels, sets))
    return result


@pytest.fixture(scope="module")
def expected(cases, processor, wheels, model):
    from verl_ext.models.model import Qwen2_5OmniThinkerPolicy

    policy = Qwen2_5OmniThinkerPolicy.from_pretrained(model, dtype=torch.float32, attn_implementation="sdpa").eval()
    return [reference.calibrate(policy, processor, wheels, c.encoded, c.response, c.labels) for c in cases]


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("signal", SIGNALS)
def test_signals_are_the_references(signal, ranks, found, expected):
    ours = [calibration.signals[signal] for calibration in found[ranks]]
    theirs = [getattr(calibration, signal) for calibration in expected]
    assert ours == pytest.approx(theirs, abs=LIMIT, nan_ok=True)
    defined = [value for value in theirs if not math.isnan(value)]
    assert len(defined) >= 4
    assert max(map(abs, defined)) > 100 * LIMIT, "the cases tell nothing"


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("mode", ["slow", "fast"])
def test_margins_are_the_references(mode, ranks, found, expected):
    ours = [calibration.margins[f"margin_{mode}"] for calibration in found[ranks]]
    assert ours == pytest.approx([getattr(c, f"margin_{mode}") for c in expected], abs=LIMIT, nan_ok=True)


@pytest.mark.parametrize("ranks", [1, 2])
def test_every_category_of_every_word_is_the_references(ranks, found, expected):
    compared = 0
    for ours, theirs in zip(found[ranks], expected, strict=True):
        counted = [word for word in ours.words_json() if word["counted"]]
        assert [word["word"] for word in counted] == [word.text for word in theirs.words]
        for one, other in zip(counted, theirs.words, strict=True):
            for mode in ("slow", "fast"):
                assert one[f"{mode}_word"] == pytest.approx(getattr(other, f"{mode}_word"), abs=LIMIT)
                for wheel, categories in getattr(other, mode).items():
                    for category, value in categories.items():
                        mine = one[mode][wheel][category]
                        assert (math.nan if mine is None else mine) == pytest.approx(value, abs=LIMIT, nan_ok=True)
                        compared += 1
    assert compared > 500


@pytest.fixture(scope="module")
def reader(model, wheels):
    """What reads a saved model, without the trainer."""
    from recipe.mer_r1.eval.category_confidence import ConfidenceReader
    from recipe.mer_r1.eval.generate import load_preset

    return ConfidenceReader(str(model), load_preset("tiny", []), wheels)


def test_a_saved_model_is_read_as_the_trainer_reads_it(reader, cases, found):
    for case, theirs in zip(cases, found[1], strict=True):
        ours = reader.of_tokens(case.encoded, case.response, case.labels)
        for form, mode in ((ours.own, "slow"), (ours.emptied, "fast")):
            expected = [theirs.margins[f"{part}_{mode}"] for part in ("gt", "neg", "margin")]
            assert [form.truth, form.negatives, form.margin] == pytest.approx(expected, abs=LIMIT, nan_ok=True)
        assert ours.signals == pytest.approx(theirs.signals, abs=LIMIT, nan_ok=True)
        for one, other in zip(ours.words, theirs.words_json(), strict=True):
            assert (one["word"], one["counted"]) == (other["word"], other["counted"])
            for mode in ("slow", "fast") if one["counted"] else ():
                assert one[f"{mode}_word"] == pytest.approx(other[f"{mode}_word"], abs=LIMIT)
                for wheel, categories in other[mode].items():
                    assert one[mode][wheel] == pytest.approx(categories, abs=LIMIT)


def test_a_fast_answer_is_read_once_and_begins_with_the_prompts_tokens(reader, cases):
    text = f"{FAST_PREFIX}happy, sad</answer>"
    ids = reader.tokens(text)
    prefix = reader.tokenizer.encode(FAST_PREFIX, add_special_tokens=False)
    assert ids[: len(prefix)] == prefix
    assert reader.tokenizer.decode(ids) == text
    fast = reader.of_tokens(cases[0].encoded, ids, cases[0].labels)
    assert fast.own == fast.emptied
    slow = reader.of_tokens(cases[0].encoded, cases[0].response, cases[0].labels)
    assert slow.emptied.truth == pytest.approx(fast.own.truth, abs=LIMIT)  # the thought is what tells them apart
    pairs = ((slow.own.categories[w], slow.emptied.categories[w]) for w in slow.own.categories)
    assert max(abs(one[c] - other[c]) for one, other in pairs for c in one) > 100 * LIMIT


def test_the_branch_is_the_references(cases, processor):
    for case in cases:
        ours = align(case.response, processor.tokenizer)
        _, ids, starts = reference.align(processor.tokenizer, case.response)
        assert ours.branch_ids == ids[: len(ours.branch_ids)]
        assert {(word.slow, word.fast) for word in ours.words} >= {(slow, fast) for _, _, slow, fast in starts}
