"""The demo page by its real command in a real browser: clips uploaded and chosen, answers and bars in the document."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import av
import pytest

from verl_ext.platform import ports

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SECONDS = 60_000  # in ms: the longest wait for anything in the page
# What the browser refused to load, or "nothing".
REFUSED = """() => new Promise(done => {
    document.addEventListener("securitypolicyviolation", event => done(event.blockedURI));
    fetch("https://elsewhere.invalid/x").catch(() => setTimeout(() => done("nothing"), 1000));
})"""


@pytest.fixture
def address(answering_model, micro_corpus, tmp_path):
    """The page of a model that answers; afterwards nothing of it is left, process or upload."""
    port = ports.free_port()
    command = [sys.executable, "-m", "recipe.mer_r1.main_eval", "demo", "--model", str(answering_model)]
    command += ["--shard", str(micro_corpus / "shards" / "test.parquet"), "--port", str(port)]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with (tmp_path / "errors").open("w+") as errors:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            # A proxy that nobody answers at: the page needs nothing from behind it.
            env={**os.environ, "TMPDIR": str(temporary), "HTTP_PROXY": "http://127.0.0.1:9"},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        try:
            lines = iter(process.stdout.readline, "")
            said = next((line for line in lines if "the page is at" in line), None)
            assert said, (tmp_path / "errors").read_text()
            yield said.split()[4]
            assert "Traceback" not in (tmp_path / "errors").read_text()
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            assert not list(temporary.glob("mer-r1-demo-*"))
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()


@pytest.fixture
def browser():
    """Headless Chromium of the system."""
    if CHROMIUM is None:
        pytest.skip("no browser: install Chromium (apt install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: run make setup")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


def as_mov(clip: Path, out: Path) -> Path:
    """The same streams in another container, as a telephone records them."""
    with av.open(str(clip)) as source, av.open(str(out), "w") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return out


def test_clips_are_answered_and_broken_ones_explained(browser, address, answering_model, micro_corpus, tmp_path):
    clip = next((micro_corpus / "test" / "video").glob("*.mp4"))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clip.read_bytes()[:2000])
    page, hosts = browser.new_page(viewport={"width": 1300, "height": 950}), set()
    page.set_default_timeout(SECONDS)
    page.on("request", lambda request: hosts.add(request.url.split("/")[2] if "://" in request.url else "data"))
    page.goto(address)
    assert str(answering_model) in page.inner_text("#facts")

    page.set_input_files("#clip input[type=file]", broken)
    page.wait_for_selector("#clip video")
    page.click("#answer")
    assert "broken.mp4" in page.inner_text("#answers [role=alert]")
    assert page.query_selector(".bars") is None

    # The error's notice has a Clear of its own, which fades away below the clip's.
    page.click("#clip .icon-button-wrapper button[aria-label=Clear]")
    page.set_input_files("#clip input[type=file]", as_mov(clip, tmp_path / "clip.mov"))
    page.wait_for_selector("#clip video")
    page.fill("#subtitle textarea", "Oh, it is you.")
    page.click("#answer")
    page.wait_for_selector(".bars")
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert page.locator(".answer .word").count() >= 2
    assert "tokens" in page.inner_text(".answer.fast .named")
    assert "True words" not in page.inner_text("#answers")
    categories = page.eval_on_selector_all(".category", "all => all.map(one => one.dataset.category)")
    assert page.locator(".category .bar").count() == 2 * len(categories) > 4
    widths = page.eval_on_selector_all(".bar", "all => all.map(one => one.getBoundingClientRect().width)")
    assert max(widths) > 50
    assert "nats" in page.inner_text(".bars")

    page.get_by_label("w2", exact=True).check()
    page.wait_for_function("document.querySelector('.bars h3').innerText.includes('w2')")
    assert page.eval_on_selector_all(".category", "all => all.map(one => one.dataset.category)") != categories

    page.click("#chosen input")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#subtitle textarea').value != 'Oh, it is you.'")
    page.click("#answer")
    page.get_by_text("True words:").wait_for()
    page.wait_for_selector(".bars")
    assert hosts <= {address.split("/")[2], "data"}
    assert page.evaluate(REFUSED) == "https://elsewhere.invalid/x"
