"""The network between regions and cells, path by path, so that each can be broken alone."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from urllib.parse import urlsplit

from orchestrator.dev.wan import NEAR_MS, DelayProxy, Fault
from orchestrator.topology import Cell, Region, Topology


class Network:
    """Delay proxies from every viewer to every cell and worker that is not beside it.

    Args:
        topology: With the true addresses.
    """

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._proxies: list[tuple[str, str, DelayProxy]] = []
        """Region of the viewer, region of what it reaches, and the way there."""

    @asynccontextmanager
    async def view(self, region: str, *, worker: bool) -> AsyncGenerator[Topology]:
        """The topology as a process in this region sees it, with addresses of proxies.

        Args:
            region: Where the process runs.
            worker: Whether it is the region's worker, which listens at its control address.
        """
        async with AsyncExitStack() as proxies:

            async def way(address: str, to: str) -> str:
                rtt_ms = self._topology.rtt_ms(region, to)
                if region == to or rtt_ms < NEAR_MS:
                    return address
                proxy = await proxies.enter_async_context(DelayProxy(address, timedelta(milliseconds=rtt_ms)))
                self._proxies.append((region, to, proxy))
                return proxy.address

            async def cell_seen(cell: Cell) -> Cell:
                assert cell.address is not None
                return cell.model_copy(update={"address": await way(cell.address, cell.region)})

            async def region_seen(seen: Region) -> Region:
                if seen.control is None or (worker and seen.name == region):
                    return seen
                address = await way(urlsplit(seen.control).netloc, seen.name)
                return seen.model_copy(update={"control": f"http://{address}"})

            yield self._topology.model_copy(
                update={
                    "cells": tuple([await cell_seen(cell) for cell in self._topology.cells]),
                    "regions": tuple([await region_seen(seen) for seen in self._topology.regions]),
                }
            )

    def partition(self, one: str, other: str, fault: Fault) -> None:
        """Break every path between two regions, in both directions."""
        for proxy in self._between(one, other):
            proxy.inflict(fault)

    def heal(self, one: str, other: str) -> None:
        """Mend what ``partition`` broke."""
        for proxy in self._between(one, other):
            proxy.heal()

    def _between(self, one: str, other: str) -> Iterator[DelayProxy]:
        return (proxy for source, target, proxy in self._proxies if {source, target} == {one, other})
