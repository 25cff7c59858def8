"""Addresses and secrets as a topology names them: the address without its secret, the secret elsewhere."""

import os
from collections.abc import Collection
from pathlib import Path
from urllib.parse import SplitResult, urlsplit


def split_address(address: str, what: str, schemes: Collection[str], example: str) -> SplitResult:
    """The parts of a URL.

    Args:
        address: As the operator wrote it. It is in no message, because it may hold a secret.
        what: What its key calls it, such as ``endpoint``.
        schemes: Those that can be spoken.
        example: What a right one looks like, such as ``nats://127.0.0.1:4222``.

    Raises:
        ValueError: It is no such URL; the message ends a sentence that begins with its key.
    """
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"is no URL ({error}); write it like {example}") from error
    if parts.scheme not in schemes:
        raise ValueError(f"is no {what}; start it with {_either(schemes)}")
    if parts.scheme != "file" and not parts.hostname:
        raise ValueError(f"names no host; write it like {example}")
    return parts


def read_secret(variable: str | None, file: Path | None) -> str | None:
    """A secret, read where it is needed and never kept; None where neither is named.

    Args:
        variable: Environment variable that holds it.
        file: File that holds it.

    Raises:
        KeyError: The variable is not set.
        OSError: The file cannot be read.
    """
    if variable is not None:
        return os.environ[variable]
    if file is not None:
        return file.read_text(encoding="utf-8").strip()
    return None


def _either(schemes: Collection[str]) -> str:
    *most, last = (f"{scheme}://" for scheme in schemes)
    return f"{', '.join(most)} or {last}" if most else last
