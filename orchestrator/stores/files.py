"""A folder as a store, for the SDK's object storage driver: a file for each object."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from temporalio.contrib.aws.s3driver import S3StorageDriverClient


class FolderClient(S3StorageDriverClient):
    """Keeps objects as files of one folder, which all who read them have mounted.

    A file is named by the hash of its object's key: keys hold workflow ids, which may be longer than
    a file's name and mean something to a file system. It is whole when it is there, and on the disk.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put_object(self, *, bucket: str, key: str, data: bytes) -> None:
        """See base class."""
        await asyncio.to_thread(self._write, self._path(key), data)

    async def object_exists(self, *, bucket: str, key: str) -> bool:
        """See base class. What is asked for counts as new: it is about to be referred to again."""
        return await asyncio.to_thread(_touched, self._path(key))

    async def get_object(self, *, bucket: str, key: str) -> bytes:
        """See base class.

        Raises:
            FileNotFoundError: The folder is there, and the file is not.
            OSError: The folder is not there, or cannot be read.
        """
        return await asyncio.to_thread(self._read, self._path(key))

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self._folder / name[:2] / name

    def _read(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            if not self._folder.is_dir():
                raise OSError(f"{self._folder} is not there; is it mounted?") from None
            raise

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        unfinished = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
        _sync(path.parent)


def _touched(path: Path) -> bool:
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _sync(folder: Path) -> None:
    # without it the file is safe and its name may not be
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
