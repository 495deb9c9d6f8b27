"""The page of one or several runs: no scripts, no other files; it reloads itself while a run goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from html import escape

from recipe.mer_r1.live import answers, panels
from recipe.mer_r1.live.status import Watched
from recipe.mer_r1.pages.html_page import document, table
from recipe.mer_r1.pages.visible import visible
from recipe.mer_r1.run import learning, state

_SAMPLES = 4
_STYLE = """
:root { --p0: #0072b2; --p1: #d55e00; --p2: #009e73; --p3: #cc79a7; --p4: #e69f00; --p5: #56b4e9; --p6: #7b6f00;
  --p7: #6b7680; }
@media screen and (prefers-color-scheme: dark) { :root { --p0: #4aa3df; --p1: #f0803c; --p2: #2fc79a; --p3: #e0a3c4;
  --p4: #f2b93b; --p5: #8fd0f5; --p6: #d6c94a; --p7: #97a3ae; } }
body { max-width: 76rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 1rem 2rem; }
section { min-width: 0; } section h2 { margin: .6rem 0 .3rem; } section p { margin: .3rem 0; font-size: .85rem; }
svg { width: 100%; height: auto; display: block; } polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
polyline.faint { stroke-width: 1; opacity: .35; } polyline.dots { stroke-width: 1.2; stroke-dasharray: 4 4; }
.frame line { stroke: var(--line); } .frame text { fill: var(--soft); font-size: 12px; }
.legend { list-style: none; padding: 0; margin: 0 0 .2rem; font-size: .85rem; } .legend li { display: inline-block;
  margin-right: 1rem; } .legend b { display: inline-block; width: .7rem; height: .7rem; border-radius: .15rem;
  margin-right: .35rem; } .legend b.line { height: .3rem; vertical-align: .2rem; }
.legend b.dots { border-radius: 50%; }
.legend i { font-style: normal; color: var(--soft); font-variant-numeric: tabular-nums; }
section table { font-size: .85rem; margin-top: .4rem; } .slowest { color: var(--bad); }
.warning { color: var(--bad); } .state { font-weight: 650; }
.running { color: var(--good); } .failed, .died { color: var(--bad); }
.bar { height: .4rem; background: var(--line); border-radius: .2rem; margin: .4rem 0; }
.bar div { height: 100%; background: var(--slow); border-radius: .2rem; }
.said { white-space: pre-wrap; overflow-wrap: anywhere; }
"""
_ENDED = {
    state.INTERRUPTED: "The run was interrupted. Run the same command again to continue from the last checkpoint.",
    state.DIED: "The process of the run ended without a message: it was killed, or out of memory (see dmesg). "
    "Run the same command again to continue from the last checkpoint.",
    state.UNKNOWN: "The run has no run.json, so it is unknown whether the run is still active.",
}


def page(runs: Sequence[tuple[str, Watched]], every: float) -> str:
    """The whole page.

    Args:
        runs: name and what is known of each.
        every: seconds between two writings, while a run goes on.
    """
    going_on = not all(watched.over for _, watched in runs)
    now = max(watched.now for _, watched in runs)
    written = f"Written {_clock(now)}"
    if going_on:
        written += f", updated every {every:g} s. If this time is long ago, the writer has ended or this tab sleeps."
    else:
        written += "; this is the last update."
    title = "Live: " + ", ".join(escape(name) for name, _ in runs)
    parts = [f"<h1>{title}</h1>", f'<p class="soft">{written}</p>']
    for name, watched in runs:
        parts += _run(name if len(runs) > 1 else "", watched)
    return document(title, _STYLE, parts, refresh=math.ceil(every) if going_on else None)


def _run(name: str, watched: Watched) -> list[str]:
    heading = [f"<h2>{escape(name)}</h2>"] if name else []
    grid = panels.all_of(watched.steps)
    step, samples = answers.newest(watched.run_dir, _SAMPLES)
    shown = []
    if samples:
        rows = [
            (f'<span class="said">{escape(visible(sample.reply))}</span>', escape(sample.labels), f"{sample.f1:.2f}")
            for sample in samples
        ]
        shown = [f"<h2>First answers in the validation after step {step}</h2>"]
        shown += [table(["reply", "true labels"], ["F1"], rows)]
    return [*heading, _status(watched), f'<div class="grid">{"".join(grid)}</div>', *shown]


def _status(watched: Watched) -> str:
    of_total = f" of {watched.total}" if watched.total else ""
    said = [f'<span class="state {watched.state}">{watched.state}</span>', f"step {watched.step}{of_total}"]
    if watched.changed:
        said.append(f"last step at {_clock(watched.changed)}")
    if not watched.over and watched.seconds_left:
        said.append(f"about {_span(watched.seconds_left)} left")
    note = _ENDED.get(watched.state, "")
    if watched.state == state.FAILED:
        note = f"{escape(watched.error)}. See the output of the run for the complete traceback."
    elif not watched.over and watched.silent:
        note = f"No step for {_span(watched.silent)}, much longer than any step before: check the output of the run."
    elif not watched.over and not watched.steps:
        note = "No step yet: the run loads the model, or does the first validation."
    share = min(1.0, watched.step / watched.total) if watched.total else 0.0
    bar = f'<div class="bar"><div style="width:{share:.1%}"></div></div>' if watched.total else ""
    notes = [f'<p class="note">{note}</p>'] if note else []
    notes += [_warning(found) for found in learning.warned(watched.steps)]
    return f"<p>{' · '.join(said)}</p>{bar}{''.join(notes)}"


def _warning(found: learning.Warned) -> str:
    if found.now:
        return f'<p class="note warning"><strong>Warning</strong> ({found.steps}): {escape(found.text)}</p>'
    return f'<p class="soft">Warned before ({found.steps}), not now: {escape(found.text)}</p>'


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
