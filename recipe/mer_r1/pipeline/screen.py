"""One screen for a command or a chain of them: a line a stage. Without a terminal, a line where something happens."""

from __future__ import annotations

import time

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from recipe.mer_r1.pipeline.progress import TRAINING, Status

_PLAIN_EVERY_SECONDS = 30.0
_BAR = 10  # characters
_MARKS = {
    "waiting": ("·", "dim"),
    "running": ("▶", "bold cyan"),
    "done": ("✓", "green"),
    "kept": ("✓", "dim green"),
    "failed": ("✗", "bold red"),
    "stopped": ("■", "yellow"),
}


class Screen:
    """The state of all stages.

    Args:
        titles: of the stages by name, in order.
        console: where to draw; live on a terminal.
        alone: whether what this process prints belongs above the screen; otherwise it goes where it is led.
    """

    def __init__(self, titles: dict[str, str], console: Console, alone: bool = True):
        self.console = console
        self._titles = titles
        self._states = dict.fromkeys(titles, "waiting")
        self._seconds: dict[str, float] = {}
        self._status: dict[str, Status] = {}
        self._ended: dict[str, int] = {}
        self._last_plain: dict[str, float] = {}
        self.footer = ""
        """Shown in the last line, beside the time since the start."""
        self._start = time.monotonic()
        # Drawn by `update` alone, in the main thread: processes are forked from it.
        kept = {"redirect_stdout": alone, "redirect_stderr": alone}
        self._live = Live(console=console, auto_refresh=False, **kept) if console.is_terminal else None

    def __enter__(self) -> Screen:
        if self._live:
            self._live.start()
            self._draw()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._draw()
            self._live.stop()

    def begin(self, name: str, command: str, resumed: bool) -> None:
        """A stage starts; its command is shown, so that it can be typed by hand (not where it is this very one)."""
        self._states[name] = "running"
        self._seconds[name] = 0.0
        again = " (continues)" if resumed else ""
        if command:
            self.console.print(Text(f"{name}{again}  $ {command}", style="dim"), soft_wrap=True)
        self._last_plain[name] = time.monotonic()
        self._draw()

    def update(self, name: str, status: Status, seconds: float) -> None:
        """A look at the running stage."""
        before = self._status.get(name, Status())
        self._status[name], self._seconds[name] = status, seconds
        late = time.monotonic() - self._last_plain.get(name, 0.0) > _PLAIN_EVERY_SECONDS
        if self._live:
            self._draw()
        elif late or status.phase != before.phase:
            self._last_plain[name] = time.monotonic()
            self._print(f"{name}  {clock(seconds)}  {_said(status)}")

    def end(self, name: str, state: str, seconds: float) -> None:
        """A stage is over: done, kept (nothing had to be done), failed or stopped."""
        self._states[name], self._seconds[name] = state, seconds
        self._ended[name] = len(self._ended)
        if not self._live:
            status = self._status.get(name, Status())
            self._print(f"{name}  {state}, {clock(seconds)}  {status.text}".rstrip())
            if self.footer:
                self.console.print(self.footer, markup=False, highlight=False)
        self._draw()

    def _print(self, line: str) -> None:
        """One line of a file, however long: a reader's editor may wrap it."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _draw(self) -> None:
        if self._live:
            self._live.update(self.table(), refresh=True)

    def _shown(self) -> list[str]:
        """The stages for which the terminal has a line each, in order."""
        room = max(3, self.console.height - 3)
        if not self._live or len(self._titles) <= room:
            return list(self._titles)
        order = list(self._titles)
        wanted = sorted(
            order, key=lambda name: (_rank(self._states[name]), -self._ended.get(name, 0), order.index(name))
        )
        return sorted(wanted[:room], key=order.index)

    def table(self) -> Table:
        """The screen as a table."""
        table = Table.grid(padding=(0, 2), expand=False)
        for name in self._shown():
            title, state = self._titles[name], self._states[name]
            mark, style = _MARKS[state]
            status = self._status.get(name, Status())
            seconds = clock(self._seconds[name]) if name in self._seconds else ""
            table.add_row(
                Text(mark, style=style),
                Text(title, style="dim" if state == "waiting" else ""),
                _bar(state, status),
                Text(seconds, style=style if state == "running" else "", justify="right"),
                Text(_shown_text(state, status), no_wrap=True),
            )
        if len(self._titles) > 1:
            table.add_row(
                "", Text("total", style="dim"), "", Text(clock(time.monotonic() - self._start), "dim"), self.footer
            )
        return table


def _rank(state: str) -> int:
    """What must be seen first where there is no room for all."""
    return ["running", "failed", "stopped", "done", "waiting", "kept"].index(state)


def _bar(state: str, status: Status) -> ProgressBar | Text:
    if state in ("done", "kept"):
        return ProgressBar(total=1, completed=1, width=_BAR)
    if state == "waiting":
        return Text(" " * _BAR)
    if status.total:
        return ProgressBar(total=status.total, completed=status.done or 0, width=_BAR)
    return ProgressBar(total=None, pulse=True, width=_BAR)


def _shown_text(state: str, status: Status) -> str:
    if state == "kept":
        return "unchanged, kept"
    return _said(status) if state == "running" else f"{_steps(status)}{status.text}"


def _said(status: Status) -> str:
    """Of a running stage: the step, the text, and what it is busy with where that is not plain from them."""
    plain = not status.phase or status.phase == TRAINING or status.phase in status.text
    return f"{_steps(status)}{status.text}" + ("" if plain else f"  {status.phase}")


def _steps(status: Status) -> str:
    """ "step 12/60  " where the stage takes steps."""
    if status.step_seconds is None:
        return ""
    return f"step {status.done}/{status.total}  " if status.total else f"step {status.done}  "


def clock(seconds: float) -> str:
    """Minutes and seconds, "3:07"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
