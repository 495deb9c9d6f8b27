"""Reads a folder in the official scorer's layout: `wheel{1..5}.xlsx`, `synonym.xlsx`, `format.csv`.

The rules were read off the MER2025 scorer (the "emotion wheel" of MER-UniBench; paper, Eq. 35) and are written down in
docs/wheels.md. They matter to the last digit, so nothing here is tidier than the original.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from recipe.mer_r1.method.answer import split_list
from recipe.mer_r1.method.wheels.table import Candidate, Row, Wheel, WheelError, WheelTable

WHEEL_FILES = tuple(f"wheel{number}.xlsx" for number in range(1, 6))
SYNONYM_FILE = "synonym.xlsx"
FORMAT_FILE = "format.csv"
FILES = (*WHEEL_FILES, SYNONYM_FILE, FORMAT_FILE)
_RUNS = 8
_SYNONYM_HEADER = tuple(f"{kind}_run{run}" for run in range(1, _RUNS + 1) for kind in ("word", "synonym"))


def load_official(folder: str | Path) -> WheelTable:
    """Read the folder. Raises WheelError for a missing, unreadable or wrongly laid out file, naming it."""
    folder = Path(folder)
    contents = {name: _read(folder / name) for name in FILES}
    digest = hashlib.sha256()
    for name in FILES:
        digest.update(f"{name}\0{len(contents[name])}\0".encode() + contents[name])
    wheels = tuple(_wheel(folder / name, contents[name]) for name in WHEEL_FILES)
    synonyms = _synonyms(folder / SYNONYM_FILE, contents[SYNONYM_FILE])
    forms = _forms(folder / FORMAT_FILE, contents[FORMAT_FILE])

    def candidates(word: str) -> list[Candidate]:
        """All candidates of all base forms pooled and sorted: the alphabetically first that a wheel knows counts."""
        pooled = {(raw, name) for name in forms.get(word, ()) for raw in synonyms.get(name, ())}
        return [Candidate._make(pair) for pair in sorted(pooled)]

    return WheelTable(
        name=folder.resolve().name,
        version="official",
        sha256=digest.hexdigest(),
        wheels=wheels,
        vocabulary=forms,
        candidates=candidates,
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WheelError(
            f"{path}: cannot be read ({error.strerror}); a wheel folder has {', '.join(FILES)} or wheel_mapping.npz"
        ) from error


def _sheet(path: Path, content: bytes) -> Iterator[tuple[object, ...]]:
    """The rows of a workbook's first sheet, header included."""
    from openpyxl import load_workbook  # on demand: the embedded default needs no spreadsheets

    try:
        book = load_workbook(io.BytesIO(content), read_only=True, data_only=True)
    except Exception as error:  # openpyxl raises what zipfile, xml and itself raise
        raise WheelError(f"{path}: is not a readable .xlsx workbook ({error})") from error
    yield from book.worksheets[0].iter_rows(values_only=True)


def _header(path: Path, row: tuple[object, ...] | None, expected: tuple[str, ...]) -> None:
    found = tuple(str(cell).strip() for cell in row or () if cell is not None)
    if found != expected:
        raise WheelError(f"{path}: the header is {','.join(found) or 'missing'}; expected {','.join(expected)}")


def _normal(cell: object) -> str:
    return "" if cell is None else str(cell).strip().lower()


def _wheel(path: Path, content: bytes) -> Wheel:
    sheet = _sheet(path, content)
    _header(path, next(sheet, None), ("level1", "level2", "level3"))
    rows: list[Row] = []
    inner = middle = ""
    for number, cells in enumerate(sheet, start=2):
        first, second, outer = (_normal(cell) for cell in (*cells, None, None, None)[:3])
        if not (first or second or outer):
            continue  # spreadsheets often end in rows that look empty but are stored
        inner, middle = first or inner, second or middle
        if not (inner and middle and outer):
            raise WheelError(f"{path}, row {number}: level3 is blank, or level1 and level2 are missing above it")
        rows.append((inner, middle, outer))
    return Wheel.from_rows(rows, str(path))


def _synonyms(path: Path, content: bytes) -> dict[str, set[str]]:
    """Synonym or wheel word → the wheel words it stands for, the union of all runs."""
    sheet = _sheet(path, content)
    _header(path, next(sheet, None), _SYNONYM_HEADER)
    synonyms: dict[str, set[str]] = defaultdict(set)
    for cells in sheet:
        row = (*cells, *[None] * (2 * _RUNS))
        for word, listed in zip(row[0 : 2 * _RUNS : 2], row[1 : 2 * _RUNS : 2], strict=True):
            raw = _normal(word)
            if not raw:
                continue
            synonyms[raw].add(raw)
            for synonym in split_list("" if listed is None else str(listed)):
                synonyms[synonym.lower()].add(raw)
    return dict(synonyms)


def _forms(path: Path, content: bytes) -> dict[str, list[str]]:
    """Form → base forms, in file order. Neither is lower-cased: a form with capitals can't be reached."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WheelError(f"{path}: is not UTF-8 ({error})") from error
    rows = csv.reader(io.StringIO(text, newline=""))
    _header(path, tuple(next(rows, ())), ("name", "format"))
    forms: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if not row:
            continue
        if len(row) != 2:
            raise WheelError(f"{path}, line {rows.line_num}: {len(row)} fields; expected name,format")
        name, listed = row
        for form in split_list(listed):
            forms[form].append(name)
        forms[name].append(name)
    return dict(forms)
