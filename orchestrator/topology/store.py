"""Where a region keeps payloads that are too large for Temporal, as an operator writes it."""

from pathlib import Path
from typing import Annotated, Self
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator

from orchestrator.topology.endpoints import read_secret, split_address

EXAMPLE = "s3://bucket/prefix or file:///srv/edgeward"

_Text = Annotated[str, StringConstraints(min_length=1)]


class Store(BaseModel):
    """The payload store of one region: a bucket or a folder that lies in it.

    In the file either its address alone, ``store = "s3://bucket/prefix"``, or a table with more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    """``s3://bucket/prefix``, or ``file:///folder`` that all workers and clients have mounted."""

    endpoint: str | None = None
    """``http(s)://`` address of an S3-compatible server. Default: AWS."""

    region: _Text | None = None
    """The bucket's region in AWS's own words, such as ``eu-central-1``. Default: ``AWS_REGION``."""

    secret_env: _Text | None = None
    """Environment variable that holds the access key's id and secret, with a colon between them.
    Default: the environment's own credentials (``AWS_ACCESS_KEY_ID``, a role of the machine)."""

    secret_file: Path | None = None
    """File that holds the same."""

    @model_validator(mode="before")
    @classmethod
    def _address_alone(cls, data: object) -> object:
        return {"url": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _usable(self) -> Self:
        parts = split_address(self.url, "store", ("file", "s3"), EXAMPLE)
        if parts.username is not None or parts.password is not None:
            raise ValueError("holds a secret; remove it and name it with secret_env or secret_file")
        if parts.query or parts.fragment:
            raise ValueError(f"has more than a bucket and a prefix; write it like {EXAMPLE}")
        if parts.scheme == "file":
            self._check_folder(parts)
        if (
            self.endpoint is not None
            and split_address(
                self.endpoint, "endpoint of a store", ("http", "https"), "http://127.0.0.1:9000"
            ).password
        ):
            raise ValueError("endpoint holds a password; remove it and name it with secret_env")
        if self.secret_env is not None and self.secret_file is not None:
            raise ValueError("has both secret_env and secret_file; keep one")
        return self

    def _check_folder(self, parts: SplitResult) -> None:
        if parts.netloc not in {"", "localhost"} or not parts.path.strip("/"):
            raise ValueError("names no folder; write it like file:///srv/edgeward")
        keys = ("endpoint", "region", "secret_env", "secret_file")
        given: list[str] = [key for key in keys if getattr(self, key) is not None]
        if given:
            raise ValueError(f"is a folder and has {given[0]}, which is a key of s3:// stores; remove it")

    @property
    def folder(self) -> Path | None:
        """The folder; None for a bucket."""
        parts = urlsplit(self.url)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None

    @property
    def bucket(self) -> str:
        """The bucket's name; empty for a folder."""
        return urlsplit(self.url).netloc if self.folder is None else ""

    @property
    def prefix(self) -> str:
        """What the names of its objects begin with, without slashes around it."""
        return urlsplit(self.url).path.strip("/")

    @property
    def place(self) -> tuple[str, ...]:
        """Equal for two stores that are the same one."""
        if self.folder is not None:
            return ("file", str(self.folder))
        return ("s3", (self.endpoint or "").rstrip("/"), self.bucket, self.prefix)

    def secret(self) -> tuple[str, str] | None:
        """Id and secret of the access key, read where they are needed and never kept.

        Raises:
            KeyError: ``secret_env`` names a variable that is not set.
            OSError: ``secret_file`` cannot be read.
            ValueError: It holds no colon.
        """
        text = read_secret(self.secret_env, self.secret_file)
        if text is None:
            return None
        identity, colon, secret = text.partition(":")
        if not colon:
            raise ValueError("the secret of a store is ID:SECRET, and what is there has no colon")
        return identity, secret


def shared_elsewhere(stores: dict[str, tuple[Store, frozenset[str]]]) -> tuple[str, str] | None:
    """Two regions of different jurisdictions that name one store; None if there are none.

    Args:
        stores: By the region's name, with the jurisdictions that the region lies in.
    """
    seen: dict[tuple[str, ...], str] = {}
    for name, (store, jurisdictions) in stores.items():
        first = seen.setdefault(store.place, name)
        if stores[first][1] != jurisdictions:
            return first, name
    return None
