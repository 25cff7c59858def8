"""Payload stores of regions: what is too large for Temporal is kept in a bucket or a folder."""

from orchestrator.stores.storage import (
    LARGEST_BYTES,
    NOWHERE,
    OFFLOADED_BYTES,
    LostPayloadError,
    RegionStorage,
    region_storage,
    storing_in,
)

__all__ = [
    "LARGEST_BYTES",
    "NOWHERE",
    "OFFLOADED_BYTES",
    "LostPayloadError",
    "RegionStorage",
    "region_storage",
    "storing_in",
]
