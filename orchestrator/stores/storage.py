"""The stores of all regions as Temporal's external storage: kept where it is made, read anywhere.

A worker keeps what it makes in the store of its own region, which the run's residency permits, for
otherwise the work would not be there. A client keeps the input of a run in the store of its home.
Every process can read all stores of its topology.

External storage is an experimental part of Temporal's SDK.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload
from temporalio.contrib.aws.s3driver import S3StorageDriver, S3StorageDriverClient
from temporalio.converter import (
    ExternalStorage,
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverSelectContext,
    StorageDriverStoreContext,
)
from temporalio.exceptions import ApplicationError

from orchestrator.errors import ConfigurationError, StoreUnavailableError, UnreadablePayloadError
from orchestrator.timing import TIMING
from orchestrator.topology import Region, Store, Topology

OFFLOADED_BYTES = 256 * 1024
"""A payload from this size on is kept in a store: Temporal's own default. A history that is read again
and again, and a message of 4 MiB at most, are no place for larger ones."""

LARGEST_BYTES = 50 * 1024 * 1024
"""A store takes no larger payload: it is held in memory, whole, by every process that reads it."""

NOWHERE = ""
"""Instead of a region: what is sent now is kept in no store."""

_storing: ContextVar[str | None] = ContextVar("edgeward_storing", default=None)


@contextmanager
def storing_in(region: str) -> Generator[None]:
    """What is encoded in this block is kept in the store of this region, if it has one.

    Args:
        region: Its name, or ``NOWHERE``.
    """
    token = _storing.set(region)
    try:
        yield
    finally:
        _storing.reset(token)


class LostPayloadError(UnreadablePayloadError, ApplicationError):
    """A stored payload that will not come back. The SDK fails a run with it, for it is final."""

    def __init__(self, message: str) -> None:
        ApplicationError.__init__(self, message, type=UnreadablePayloadError.__name__, non_retryable=True)


class RegionDriver(StorageDriver):
    """The store of one region.

    Args:
        region: Its name; part of what refers to a payload.
        store: Where payloads are kept. Opened when it is used first.
    """

    def __init__(self, region: str, store: Store) -> None:
        self._region = region
        self._store = store
        self._opened: S3StorageDriver | None = None

    def name(self) -> str:
        """See base class."""
        return f"edgeward.{self._region}"

    def type(self) -> str:
        """See base class."""
        return "edgeward.region"

    def open(self) -> S3StorageDriver:
        """The SDK's driver over this store.

        Raises:
            ConfigurationError: The store's client is not installed, or its secret cannot be read.
        """
        if self._opened is None:
            self._opened = _driver(self.name(), self._region, self._store)
        return self._opened

    async def store(
        self, context: StorageDriverStoreContext, payloads: Sequence[Payload]
    ) -> list[StorageDriverClaim]:
        """See base class.

        Raises:
            StoreUnavailableError: The store did not take them.
        """
        try:
            claims = await self.open().store(context, payloads)
        except RuntimeError as error:
            raise self._unavailable(error) from error
        return [_with_timing(claim, payload) for claim, payload in zip(claims, payloads, strict=True)]

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        """See base class.

        Raises:
            StoreUnavailableError: The store did not answer.
            UnreadablePayloadError: It answers, and does not have them.
        """
        try:
            return await self.open().retrieve(context, claims)
        except (ValueError, KeyError, DecodeError) as error:
            raise self._lost("what refers to it, or what is kept there, is damaged") from error
        except RuntimeError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise self._lost("it has been deleted, or was never there") from None
            if isinstance(error.__cause__, ValueError):
                raise self._lost("what refers to it is damaged") from None
            raise self._unavailable(error) from error

    def _lost(self, reason: str) -> LostPayloadError:
        return LostPayloadError(
            f"the store of region {self._region} does not have a payload ({reason}); keep stored payloads "
            "for longer than runs and their histories last"
        )

    def _unavailable(self, error: RuntimeError) -> StoreUnavailableError:
        reason = type(error.__cause__ or error).__name__
        return StoreUnavailableError(
            f"the store of region {self._region} cannot be used ({reason}); "
            f"check regions.{self._region}.store and its permissions"
        )


@dataclass(frozen=True)
class RegionStorage(ExternalStorage):
    """Temporal's external storage over the stores of all regions."""

    def _get_driver_by_name(self, name: str) -> StorageDriver:
        # the SDK's error would have the workflow task tried again for ever
        try:
            return super()._get_driver_by_name(name)
        except ValueError:
            raise LostPayloadError(
                "a payload is kept in a store that this topology does not have; "
                "add the store of its region, or correct who sent it"
            ) from None


def region_storage(topology: Topology, own: Region | None) -> RegionStorage | None:
    """The storage of one process.

    Args:
        topology: With the stores.
        own: The region that the process works in: what it makes is kept there. None for a client,
            which keeps only what it sends inside of ``storing_in``.

    Returns:
        None for a topology without stores.

    Raises:
        ConfigurationError: The own region's store cannot be used as it is configured.
    """
    drivers = {
        region.name: RegionDriver(region.name, region.store) for region in topology.regions if region.store
    }
    if not drivers:
        return None
    own_name = own.name if own is not None else NOWHERE
    if own_name in drivers:
        drivers[own_name].open()

    def select(_context: StorageDriverSelectContext, _payload: Payload) -> StorageDriver | None:
        region = _storing.get()
        return drivers.get(own_name if region is None else region)

    return RegionStorage(
        drivers=list(drivers.values()), driver_selector=select, payload_size_threshold=OFFLOADED_BYTES
    )


def _with_timing(claim: StorageDriverClaim, payload: Payload) -> StorageDriverClaim:
    """With what a worker noted beside a result, so that it stays in the history."""
    timing = payload.metadata.get(TIMING)
    if timing is None:
        return claim
    return StorageDriverClaim({**claim.claim_data, TIMING: timing.decode()})


def _driver(name: str, region: str, store: Store) -> S3StorageDriver:
    if store.folder is not None:
        from orchestrator.stores.files import FolderClient

        client: S3StorageDriverClient = FolderClient(store.folder)
    else:
        client = _bucket_client(region, store)
    return S3StorageDriver(client, store.bucket or region, driver_name=name, max_payload_size=LARGEST_BYTES)


def _bucket_client(region: str, store: Store) -> S3StorageDriverClient:
    try:
        from orchestrator.stores.objects import BucketClient
    except ImportError as error:
        raise ConfigurationError(
            f"region {region} has an s3:// store, and obstore is not installed; pip install 'edgeward[s3]'"
        ) from error
    try:
        return BucketClient(store)
    except KeyError as error:
        raise ConfigurationError(
            f"regions.{region}.store: environment variable {error.args[0]} is not set; set it"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"regions.{region}.store: {error}; correct it") from None
