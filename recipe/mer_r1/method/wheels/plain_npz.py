"""Reads npz files of others without trusting them.

Such a file may hold pickles, and unpickling runs what the file says. Here an unpickler admits numpy arrays, dicts,
lists, strings and numbers and refuses the rest before anything of it is run.
"""

from __future__ import annotations

import pickle
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

# What numpy itself writes into a pickled array, taken from numpy so as not to depend on where a version keeps it;
# plain dicts, lists, strings and numbers need no global at all.
_RECONSTRUCT = np.empty(0).__reduce__()[0]
_SCALAR = np.float64(0).__reduce__()[0]
_FROMBUFFER = np.zeros(1).__reduce_ex__(5)[0]
_ADMITTED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy.core.multiarray", "scalar"): _SCALAR,
    ("numpy._core.multiarray", "scalar"): _SCALAR,
    ("numpy.core.numeric", "_frombuffer"): _FROMBUFFER,
    ("numpy._core.numeric", "_frombuffer"): _FROMBUFFER,
}


LARGEST_MEMBER = 256 << 20
"""Bytes unpacked; the labels of a benchmark's set take some hundred kB."""


class NpzError(ValueError):
    """An npz file that cannot be read, or that asks for more than plain data; the message names file and member."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it needs {module}.{name}; only numpy arrays, dicts, lists, strings and numbers are allowed"
            ) from None


def read_npz(path: Path) -> dict[str, Any]:
    """All members of an npz file: arrays, or the object a 0-d object array holds (MERBench keeps dicts so).

    Raises NpzError where the file can't be read, and for a pickle that holds anything but plain data.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(archive, path)
            return {
                member.removesuffix(".npy"): _member(archive, member, path)
                for member in archive.namelist()
                if member.endswith(".npy")
            }
    except (OSError, RuntimeError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise NpzError(f"{path}: cannot be read as npz ({error})") from error


def _check_sizes(archive: zipfile.ZipFile, path: Path) -> None:
    """A few bytes can unpack to any number of them."""
    for member in archive.infolist():
        if member.file_size > LARGEST_MEMBER:
            raise NpzError(
                f"{path}, member {member.filename}: refused, its unpacked size is {member.file_size >> 20} MiB, over "
                f"{LARGEST_MEMBER >> 20} MiB"
            )


def _member(archive: zipfile.ZipFile, member: str, path: Path) -> Any:
    try:
        with archive.open(member) as stream:
            array = _Unpickler(stream, encoding="latin1").load() if _holds_objects(stream) else None
        if array is None:
            with archive.open(member) as stream:
                array = np.lib.format.read_array(stream, allow_pickle=False)
    except pickle.UnpicklingError as error:
        raise NpzError(f"{path}, member {member}: refused, {error}") from error
    except (ValueError, TypeError, AttributeError, IndexError, KeyError, EOFError) as error:
        raise NpzError(f"{path}, member {member}: is not a readable array ({error})") from error
    return array.item() if isinstance(array, np.ndarray) and array.shape == () else array


def _holds_objects(stream: IO[bytes]) -> bool:
    """Read the array's header; afterwards the stream stands at its data."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(stream)[2].hasobject
