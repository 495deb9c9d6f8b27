"""Arguments of the commands that ask a model: where it is, the key, and numbers."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from recipe.mer_r1.files.errors import InputError


def check_endpoint(url: str) -> str:
    """The base URL without a slash at its end.

    Raises:
        InputError: it is none, or could hold a secret that would be written to files.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError("--endpoint: not an http(s) URL such as https://host/v1")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InputError("--endpoint: the URL must not contain a user, password or query; the key comes from --key-env")
    return url.rstrip("/")


def read_key(variable: str) -> str:
    """The key; it is never shown.

    Raises:
        InputError: the variable is not set, or holds what no header can.
    """
    key = os.environ.get(variable, "").strip()
    if not key:
        raise InputError(
            f"{variable} is not set; set it to the endpoint's key (to any word if the endpoint needs no key)"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InputError(f"{variable} contains characters that a key cannot have")
    return key


def positive(text: str) -> int:
    """A whole number of at least 1, as the type of an argument; ValueError otherwise."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number
