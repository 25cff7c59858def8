"""Connecting to a cell: by address, or by a profile of Temporal's own configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from temporalio.client import Client, Plugin
from temporalio.envconfig import ClientConfigProfile
from temporalio.runtime import Runtime

from orchestrator.errors import ConfigurationError
from orchestrator.topology import Cell


async def connect_cell(
    cell: Cell,
    *,
    plugins: Sequence[Plugin] = (),
    runtime: Runtime | None = None,
    identity: str | None = None,
    lazy: bool = False,
) -> Client:
    """A Temporal client for the cell.

    Args:
        cell: The cell.
        plugins: Of the client.
        runtime: The SDK's runtime; its default one if left out.
        identity: What the cell's UI shows for this process.
        lazy: Connect at the first call instead of now.

    Raises:
        ConfigurationError: The profile does not exist or cannot be read.
        RuntimeError: Nothing answers at the address.
    """
    options: dict[str, Any] = _profile(cell) if cell.profile is not None else {"target_host": cell.address}
    options["namespace"] = cell.namespace or options.get("namespace") or "default"
    if identity is not None:
        options["identity"] = identity
    address: str = options.pop("target_host")
    return await Client.connect(address, plugins=plugins, runtime=runtime, lazy=lazy, **options)


def _profile(cell: Cell) -> dict[str, Any]:
    try:
        profile = ClientConfigProfile.load(profile=cell.profile)
    except (RuntimeError, OSError) as error:
        raise ConfigurationError(
            f"cells.{cell.name}.profile: {cell.profile!r} cannot be used: {error}"
        ) from error
    options = cast("dict[str, Any]", profile.to_client_connect_config())
    if not options.get("target_host"):
        raise ConfigurationError(
            f"cells.{cell.name}.profile: {cell.profile!r} has no address; add it to temporal.toml"
        )
    return options
