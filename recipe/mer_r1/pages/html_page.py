"""What the project's HTML pages share: no scripts, no other files, light or dark as the reader's system is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2329; --back: #fff; --soft: #67717c; --line: #d9dee3; --card: #f5f7f9;
  --good: #187a3c; --bad: #b3261e; --mixed: #8a5a00; --unknown: #7b3fa0; --slow: #2b6cb0; --fast: #d98324; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e2e6ea; --back: #14181c; --soft: #98a2ad;
  --line: #343b42; --card: #1c2228; --good: #5fc884; --bad: #ff8a80; --mixed: #e3b341; --unknown: #c792ea;
  --slow: #6cb0f5; --fast: #f0a951; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.25rem; overflow-wrap: anywhere; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
h3 { font-size: .95rem; margin: 1.2rem 0 .4rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; }
th, td { padding: .2rem .7rem .2rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; }
th { color: var(--soft); font-weight: 500; } .n { text-align: right; font-variant-numeric: tabular-nums; }
tr.here td, tr.sum td { font-weight: 650; } .soft { color: var(--soft); }
.response { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--card); padding: .8rem 1rem;
  border-radius: .4rem; }
.correct { color: var(--good); font-weight: 650; } .incorrect { color: var(--bad); font-weight: 650; }
.mixed { color: var(--mixed); font-weight: 650; } .unknown { color: var(--unknown); font-weight: 650; }
.note { border-left: .3rem solid var(--mixed); padding: .2rem .9rem; }
"""
# Whatever a model wrote: nothing runs, nothing is fetched.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(title: str, style: str, parts: Iterable[str], refresh: int | None = None) -> str:
    """A whole page.

    Args:
        title: escaped.
        style: CSS besides the shared one.
        parts: the body, as HTML.
        refresh: seconds after which the browser loads the page again; None: never.
    """
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{title}</title><style>{_STYLE}{style}</style>"
    )
    if refresh is not None:
        head += f'<meta http-equiv="refresh" content="{refresh}">'
    body = "\n".join(parts)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def table(
    texts: Sequence[str],
    numbers: Sequence[str],
    rows: Iterable[Sequence[str]],
    marked: Mapping[int, str] | None = None,
) -> str:
    """A table of cells that are HTML already: columns of texts, then of numbers; ``marked``: classes of rows."""
    heads = "".join(f"<th>{name}</th>" for name in texts) + "".join(f'<th class="n">{name}</th>' for name in numbers)
    lines = []
    for index, row in enumerate(rows):
        cells = "".join(f"<td>{cell}</td>" for cell in row[: len(texts)])
        cells += "".join(f'<td class="n">{cell}</td>' for cell in row[len(texts) :])
        lines.append(f'<tr class="{(marked or {}).get(index, "")}">{cells}</tr>')
    return f'<div class="scroll"><table><tr>{heads}</tr>{"".join(lines)}</table></div>'
