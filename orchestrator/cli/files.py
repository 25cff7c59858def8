"""Files that a command is asked to write."""

from __future__ import annotations

from pathlib import Path

from orchestrator.errors import ConfigurationError


def check_writable(file: Path) -> None:
    """Refuses a file that could not be written, before the work is done whose result it is to hold.

    Raises:
        ConfigurationError: It is a folder, or there is no folder to put it in.
    """
    if file.is_dir():
        raise ConfigurationError(f"{file} is a folder; name a file in it, such as {file / 'run.html'}")
    if not file.parent.is_dir():
        raise ConfigurationError(f"{file}: there is no folder {file.parent}; make it, or name another file")


def write_text(file: Path, text: str) -> None:
    """Writes a file, or replaces what it held.

    Raises:
        ConfigurationError: The system refuses; the message says why.
    """
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(f"{file} cannot be written: {reason}; name another file") from error
