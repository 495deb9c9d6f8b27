"""The page of one or several runs: no scripts, no other files; it reloads itself while a run goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from html import escape

from recipe.mer_r1.live import answers, overlay, panels, settings
from recipe.mer_r1.live.status import Watched
from recipe.mer_r1.pages.html_page import document
from recipe.mer_r1.pages.visible import visible
from recipe.mer_r1.pipeline.progress import in_words
from recipe.mer_r1.run import learning, state

_CLIPS = 4
_STYLE = """
:root { --p0: #0072b2; --p1: #d55e00; --p2: #009e73; --p3: #cc79a7; --p4: #e69f00; --p5: #56b4e9; --p6: #7b6f00;
  --p7: #6b7680; }
@media screen and (prefers-color-scheme: dark) { :root { --p0: #4aa3df; --p1: #f0803c; --p2: #2fc79a; --p3: #e0a3c4;
  --p4: #f2b93b; --p5: #8fd0f5; --p6: #d6c94a; --p7: #97a3ae; } }
body { max-width: 76rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); gap: 1rem 2rem; }
section { min-width: 0; } section h2 { margin: .6rem 0 .3rem; } section p { margin: .3rem 0; font-size: .85rem; }
svg { width: 100%; height: auto; display: block; } polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
polyline.faint { stroke-width: 1; opacity: .35; } polyline.dots { stroke-width: 1.2; stroke-dasharray: 4 4; }
.frame line { stroke: var(--line); } .frame text { fill: var(--soft); font-size: 12px; }
.legend { list-style: none; padding: 0; margin: 0 0 .2rem; font-size: .85rem; } .legend li { display: inline-block;
  margin-right: 1rem; } .legend b { display: inline-block; width: .7rem; height: .7rem; border-radius: .15rem;
  margin-right: .35rem; } .legend b.line { height: .3rem; vertical-align: .2rem; }
.legend b.dots { border-radius: 50%; }
.legend i { font-style: normal; color: var(--soft); font-variant-numeric: tabular-nums; }
section table { font-size: .85rem; margin-top: .4rem; }
@media (max-width: 34rem) { section table { font-size: .8rem; } section th, section td { padding-right: .45rem; } }
.warning { color: var(--bad); } .state { font-weight: 650; }
.running { color: var(--good); } .failed, .died { color: var(--bad); }
.bar { height: .4rem; background: var(--line); border-radius: .2rem; margin: .4rem 0; }
.bar div { height: 100%; background: var(--slow); border-radius: .2rem; }
.facts { display: grid; grid-template-columns: auto 1fr; gap: .1rem .9rem; font-size: .85rem; margin: .4rem 0; }
.facts dt { color: var(--soft); } .facts dd { margin: 0; overflow-wrap: anywhere; }
.said { white-space: pre-wrap; overflow-wrap: anywhere; }
.clips { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); gap: 1rem; }
.clip { background: var(--card); border-radius: .4rem; padding: .7rem .9rem; font-size: .85rem; min-width: 0; }
.clip img { float: right; max-width: 7rem; height: auto; border-radius: .3rem; margin: 0 0 .4rem .7rem; }
.clip h3 { margin: 0 0 .3rem; } .clip p { margin: .25rem 0; } .reply { clear: none; padding-left: .6rem; }
.reply.slow { border-left: .2rem solid var(--slow); } .reply.fast { border-left: .2rem solid var(--fast); }
.key { display: inline-block; width: .8rem; height: .8rem; border-radius: .15rem; margin-right: .4rem; }
details.run > summary { cursor: pointer; margin: 1rem 0 .4rem; font-weight: 650; }
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
    parts += _one(runs[0][1]) if len(runs) == 1 else _several(runs)
    return document(title, _STYLE, parts, refresh=math.ceil(every) if going_on else None)


def _one(watched: Watched) -> list[str]:
    grid = panels.all_of(watched.steps)
    return [_facts(watched), _status(watched), f'<div class="grid">{"".join(grid)}</div>', *_answers(watched)]


def _several(runs: Sequence[tuple[str, Watched]]) -> list[str]:
    """All runs side by side with states and settings, then over each other in the same charts; then each alone."""
    heads = [
        f'<section><h2><b class="key" style="background:{overlay.colour(place)}"></b>{escape(name)}</h2>'
        f"{_status(watched)}{_facts(watched)}</section>"
        for place, (name, watched) in enumerate(runs)
    ]
    steps = {name: watched.steps for name, watched in runs}
    parts = [f'<div class="grid">{"".join(heads)}</div>', "<h2>The runs in the same charts</h2>"]
    parts.append(
        f'<div class="grid">{"".join(overlay.all_of(steps))}{overlay.validations(steps)}{overlay.phases(steps)}</div>'
    )
    for name, watched in runs:
        grid = f'<div class="grid">{"".join(panels.all_of(watched.steps))}</div>'
        inside = "".join([grid, *_answers(watched)])
        parts.append(f'<details class="run"><summary>{escape(name)} alone</summary>{inside}</details>')
    return parts


def _facts(watched: Watched) -> str:
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(visible(value))}</dd>"
        for name, value in settings.facts(watched.run_dir).items()
    )
    return f'<dl class="facts">{rows}</dl>' if rows else ""


def _answers(watched: Watched) -> list[str]:
    step, clips = answers.newest(watched.run_dir, _CLIPS)
    if not clips:
        return []
    shown = "".join(map(_clip, clips))
    return [
        f"<h2>First clips of the validation after step {step}, greedy answers</h2>",
        f'<div class="clips">{shown}</div>',
    ]


def _clip(clip: answers.Clip) -> str:
    name = escape(visible(clip.name)) or "a clip"
    frame = f'<img src="{clip.frame}" alt="{name}, a frame of its middle">' if clip.frame else ""
    missing = f'<p class="soft">No frame: {escape(visible(clip.missing))}</p>' if clip.missing else ""
    subtitle = f"<p>Subtitle: {escape(visible(clip.subtitle))}</p>" if clip.subtitle else ""
    replies = "".join(
        f'<div class="reply {mode}"><p class="soft">{mode}, F1 {reply.f1:.2f}</p>'
        f'<p class="said">{escape(visible(reply.text))}</p></div>'
        for mode in ("slow", "fast")
        if (reply := clip.replies.get(mode))
    )
    return (
        f'<div class="clip">{frame}<h3>{name}</h3>{subtitle}<p>True words: {escape(visible(clip.labels))}</p>'
        f"{replies}{missing}</div>"
    )


def _status(watched: Watched) -> str:
    of_total = f" of {watched.total}" if watched.total else ""
    said = [f'<span class="state {watched.state}">{watched.state}</span>', f"step {watched.step}{of_total}"]
    if watched.changed:
        said.append(f"last step at {_clock(watched.changed)}")
    if not watched.over and watched.seconds_left:
        said.append(f"about {in_words(watched.seconds_left)} left")
    note = _ENDED.get(watched.state, "")
    if watched.state == state.FAILED:
        note = f"{escape(watched.error)}. See the output of the run for the complete traceback."
    elif not watched.over and watched.silent:
        note = f"No step for {in_words(watched.silent)}, much longer than any step before: check the output of the run."
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
