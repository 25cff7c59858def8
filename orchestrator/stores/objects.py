"""A bucket as a store, for the SDK's object storage driver, over obstore."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from temporalio.contrib.aws.s3driver import S3StorageDriverClient

from orchestrator.topology import Store

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

CONNECT = timedelta(seconds=5)
REQUEST = timedelta(seconds=30)
"""For one object of up to 50 MiB."""

TRIES = 3
"""Beyond the first; then Temporal tries the step or the workflow task again."""


class BucketClient(S3StorageDriverClient):
    """Keeps objects below the prefix of one bucket.

    Raises:
        KeyError, OSError, ValueError: The store's secret cannot be read.
    """

    def __init__(self, store: Store) -> None:
        config: S3Config = {}
        if store.endpoint is not None:
            config["endpoint"] = store.endpoint
        if store.region is not None:
            config["region"] = store.region
        if (secret := store.secret()) is not None:
            config["access_key_id"], config["secret_access_key"] = secret
        options: ClientConfig = {
            "allow_http": (store.endpoint or "").startswith("http://"),
            "connect_timeout": CONNECT,
            "timeout": REQUEST,
        }
        retries: RetryConfig = {"max_retries": TRIES, "retry_timeout": REQUEST}
        self._bucket = store.bucket
        self._objects = obstore.store.S3Store(
            store.bucket,
            prefix=store.prefix or None,
            config=config,
            client_options=options,
            retry_config=retries,
        )

    async def put_object(self, *, bucket: str, key: str, data: bytes) -> None:
        """See base class."""
        await obstore.put_async(self._objects, key, data)

    async def object_exists(self, *, bucket: str, key: str) -> bool:
        """See base class."""
        try:
            await obstore.head_async(self._objects, key)
        except FileNotFoundError:
            return False
        return True

    async def get_object(self, *, bucket: str, key: str) -> bytes:
        """See base class.

        Raises:
            FileNotFoundError: The bucket has no such object.
            ValueError: The object is said to be in another bucket.
            OSError: There is no such bucket, or it may not be read.
        """
        if bucket != self._bucket:
            raise ValueError("the reference names another bucket")
        try:
            answer = await obstore.get_async(self._objects, key)
        except FileNotFoundError as error:
            # the same class says that the bucket is missing, which an operator can mend
            if "NoSuchBucket" in str(error):
                raise OSError("there is no such bucket") from None
            raise
        return bytes(await answer.bytes_async())
