"""An offer's endpoint as requests see it: its address, its secret and how it is shown in errors."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from orchestrator.errors import ConfigurationError
from orchestrator.topology.model import Offer


def shown(url: str) -> str:
    """A URL without credentials, query and fragment, as messages show it."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


@dataclass(frozen=True)
class Endpoint:
    """What one region offers under one name."""

    offer: Offer
    region: str

    @property
    def target(self) -> str:
        """What the endpoint itself calls it."""
        return self.offer.target or self.offer.name

    @property
    def shown(self) -> str:
        """The address, fit for messages."""
        return shown(self.offer.endpoint)

    def __str__(self) -> str:
        """``model "chat" of region eu-central``."""
        return f"{self.offer.key} of region {self.region}"

    def secret(self) -> str | None:
        """The API key or password; read for each use, so that it can be replaced while the worker runs.

        Raises:
            ConfigurationError: It cannot be read, or cannot be a secret. The message never holds it.
        """
        try:
            secret = self.offer.secret()
        except KeyError:
            raise ConfigurationError(
                f"{self}: its secret_env names {self.offer.secret_env}, which is not set; "
                "set that environment variable for the worker"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"{self}: its secret_file {self.offer.secret_file} cannot be read ({type(error).__name__}); "
                "let the worker read it"
            ) from None
        if secret is None:
            return None
        secret = secret.strip()
        # The HTTP client would quote the header it refuses, and so the secret, in its own error.
        if not secret or not all("\x21" <= character <= "\x7e" for character in secret):
            source = self.offer.secret_env or self.offer.secret_file
            raise ConfigurationError(
                f"{self}: what {source} holds is no secret: empty, or with blanks or non-ASCII characters; "
                "put the bare key there"
            )
        return secret
