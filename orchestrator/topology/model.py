"""What exists, as an operator writes it: cells, regions, offers and links.

Value types only. They are frozen, and validated where they are made: a ``Topology`` that
exists is consistent. Reading one from a file is ``orchestrator.topology.load``.
"""

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self, cast

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from orchestrator.geography import Coordinates, estimated_rtt_ms, is_country, jurisdictions_of
from orchestrator.topology.endpoints import read_secret, split_address
from orchestrator.topology.store import Store, shared_elsewhere

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=63)]
"""Lower-case letters, digits and hyphens: names become parts of task queues and headers."""

Text = Annotated[str, StringConstraints(min_length=1)]
"""A text that says something."""

OfferKind = Literal["model", "collection", "tool"]

INSIDE_A_REGION_MS = 0.6
"""RTT between two machines of one region where nobody measured it (AWS, between zones: 0.4–0.9)."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OfferKey(NamedTuple):
    """What a step asks for and a region offers: a kind and a name, such as ``model "chat"``."""

    kind: OfferKind
    name: str

    def __str__(self) -> str:
        """``model "chat"``, as messages write it."""
        return f'{self.kind} "{self.name}"'


class Offer(_Value):
    """Something that a region can do: answer with a model, search a collection, run a tool."""

    kind: OfferKind
    name: Name
    """What steps ask for, such as ``chat`` or ``handbook``: a role, not a product."""

    endpoint: str
    """Where it is served: ``http(s)://`` for models and tools (base URL), ``postgresql://`` or
    ``file://`` for collections. Credentials do not belong here; see ``secret_env``."""

    protocol: Literal["openai", "qdrant-edge", "pgvector", "http", "mcp"] | None = None
    """How it is spoken to. Default: ``openai`` for models, ``pgvector`` or ``qdrant-edge`` for
    collections by their endpoint's scheme, ``http`` for tools."""

    target: Text | None = None
    """What the endpoint itself calls it (a model id, a table, a tool's name); default: ``name``."""

    slots: int = Field(default=8, ge=1, strict=True)
    """How many requests it serves at a time without queueing."""

    price: float = Field(default=0.0, ge=0, allow_inf_nan=False, strict=True)
    """Price of one call, in the operator's unit."""

    warm_up: bool | None = None
    """Whether a worker that starts asks the model for one token, so that the first run does not wait
    for it. Default: a model without a secret and a price is asked; others may cost money."""

    secret_env: Text | None = None
    """Environment variable of the worker that holds the API key or password."""

    secret_file: Path | None = None
    """File that holds the API key or password, read by the worker."""

    @field_validator("endpoint")
    @classmethod
    def _endpoint_without_secrets(cls, endpoint: str) -> str:
        schemes = ("http", "https", "postgresql", "file")
        if split_address(endpoint, "endpoint", schemes, "http://127.0.0.1:8080/v1").password:
            raise ValueError("holds a password; remove it and name it with secret_env or secret_file")
        return endpoint

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if self.secret_env is not None and self.secret_file is not None:
            raise ValueError("has both secret_env and secret_file; keep one")
        return self

    @model_validator(mode="after")
    def _warm_model(self) -> Self:
        if self.warm_up is not None and self.kind != "model":
            raise ValueError("has warm_up, which is a key of models; remove it")
        return self

    @property
    def key(self) -> OfferKey:
        """Kind and name."""
        return OfferKey(kind=self.kind, name=self.name)

    @property
    def asked_at_start(self) -> bool:
        """``warm_up``, with its default filled in."""
        if self.warm_up is not None:
            return self.warm_up
        return self.secret_env is None and self.secret_file is None and self.price == 0

    @property
    def spoken(self) -> str:
        """The protocol, with its default filled in."""
        if self.protocol:
            return self.protocol
        if self.kind == "collection":
            return "pgvector" if self.endpoint.startswith("postgresql:") else "qdrant-edge"
        return "openai" if self.kind == "model" else "http"

    def secret(self) -> str | None:
        """The API key or password, read where it is needed and never kept.

        Raises:
            KeyError: ``secret_env`` names a variable that is not set.
            OSError: ``secret_file`` cannot be read.
        """
        return read_secret(self.secret_env, self.secret_file)


class Cell(_Value):
    """One Temporal cluster and namespace. Runs live in exactly one cell."""

    name: Name
    region: Name
    """The region in which its server stands."""

    address: str | None = None
    """``host:port`` of the frontend. Give this or ``profile``."""

    namespace: Text | None = None
    profile: Text | None = None
    """A profile of Temporal's own ``temporal.toml``: TLS and API keys come from there."""

    ui: str | None = None
    """Address of its web UI, for people."""

    @field_validator("address")
    @classmethod
    def _host_and_port(cls, address: str | None) -> str | None:
        if address is not None and not re.fullmatch(r"[^\s/]+:\d{1,5}", address):
            raise ValueError(f"{shortened(address)} is no address; write host:port, such as localhost:7233")
        return address

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.address is None and self.profile is None:
            raise ValueError(
                'has neither an address nor a profile of temporal.toml; add address = "host:port" or one'
            )
        if self.address is not None and self.profile is not None:
            raise ValueError("has both an address and a profile of temporal.toml; keep one")
        return self


class Region(_Value):
    """A place with workers."""

    name: Name
    coordinates: Coordinates
    country: str
    """ISO 3166-1 alpha-2, upper case."""

    jurisdictions: frozenset[Text] = frozenset()
    """Whose law reaches data in this region. Default: the country and the unions it belongs to
    (``EU``). A list given here replaces that default; the country itself always counts."""

    cell: Name
    """The cell that keeps the histories of runs that have their home here."""

    serves: tuple[Name, ...] = ()
    """The cells whose queues its workers poll. Default: every cell of the topology."""

    standby: tuple[Name, ...] | None = None
    """The regions whose workers go on with its runs while its own are gone. Default: the nearest one that
    serves its cell. Runs whose residency does not permit all of them wait for their home instead."""

    offers: tuple[Offer, ...] = ()
    control: str | None = None
    """``http://host:port`` of its worker: health, probes and streams."""

    bus: str | None = None
    """``nats://host:port`` of the server through which several worker processes of the region share
    the text of running steps. Default: in memory, for one process."""

    bus_secret_env: Text | None = None
    """Environment variable of the worker that holds the bus's password (with a user in ``bus``),
    its token, or the text of a credentials file."""

    bus_secret_file: Path | None = None
    """File that holds the same, read by the worker."""

    store: Store | None = None
    """Where payloads that are made in this region are kept when they are too large for Temporal; it
    lies in the region's jurisdictions. Default: they are refused."""

    @field_validator("country")
    @classmethod
    def _existing_country(cls, country: str) -> str:
        if not is_country(country):
            raise ValueError(
                f"{shortened(country)} is no country code; write its two letters of ISO 3166-1, such as PT"
            )
        return country

    @field_validator("control")
    @classmethod
    def _control_over_http(cls, control: str | None) -> str | None:
        if control is not None and not re.match(r"https?://[^/\s]", control):
            raise ValueError(f"{shortened(control)} is no address; write it like http://127.0.0.1:8090")
        return control

    @field_validator("bus")
    @classmethod
    def _bus_without_secrets(cls, bus: str | None) -> str | None:
        if bus is not None and split_address(bus, "bus", ("nats", "tls"), "nats://127.0.0.1:4222").password:
            raise ValueError("holds a password; remove it and name it with bus_secret_env or bus_secret_file")
        return bus

    @model_validator(mode="after")
    def _secret_of_a_bus(self) -> Self:
        if self.bus_secret_env is not None and self.bus_secret_file is not None:
            raise ValueError("has both bus_secret_env and bus_secret_file; keep one")
        if self.bus is None and (self.bus_secret_env is not None or self.bus_secret_file is not None):
            raise ValueError('has the secret of a bus and no bus; add bus = "nats://host:4222" or remove it')
        return self

    @model_validator(mode="before")
    @classmethod
    def _default_jurisdictions(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data  # pyright: ignore[reportUnknownVariableType] -- pydantic refuses it next
        values = cast("dict[str, object]", data)
        country, given = values.get("country"), values.get("jurisdictions")
        if not isinstance(country, str):
            return values
        if given is None:
            return {**values, "jurisdictions": jurisdictions_of(country)}
        if isinstance(given, list | tuple | set | frozenset):
            # a list, because what is in it may be anything yet, also what no set can hold
            return {**values, "jurisdictions": [*cast("list[object]", given), country]}
        return values

    @model_validator(mode="after")
    def _cells_once(self) -> Self:
        for cell in self.serves:
            if self.serves.count(cell) > 1:
                raise ValueError(f"serves the cell {cell!r} twice; remove one")
        return self

    @model_validator(mode="after")
    def _offers_once(self) -> Self:
        seen: set[OfferKey] = set()
        for offer in self.offers:
            if offer.key in seen:
                raise ValueError(f"offers {offer.key} twice; remove or rename one")
            seen.add(offer.key)
        return self

    def bus_secret(self) -> str | None:
        """The bus's password, token or credentials, read where they are needed and never kept.

        Raises:
            KeyError, OSError: What is named there cannot be read.
        """
        return read_secret(self.bus_secret_env, self.bus_secret_file)

    @cached_property
    def prices(self) -> dict[OfferKey, float]:
        """Of one call of each offer."""
        return {offer.key: offer.price for offer in self.offers}

    @cached_property
    def offered(self) -> frozenset[OfferKey]:
        """Kind and name of everything it offers."""
        return frozenset(self.prices)

    @cached_property
    def offered_names(self) -> frozenset[str]:
        """The same as texts: ``model "chat"``."""
        return frozenset(map(str, self.offered))

    def offer(self, key: OfferKey) -> Offer | None:
        """The offer of this kind and name, if the region has it."""
        return next((offer for offer in self.offers if offer.key == key), None)


class Link(_Value):
    """A measured round trip time between two regions, in milliseconds."""

    source: Name
    target: Name
    rtt_ms: float = Field(ge=0, allow_inf_nan=False, strict=True)


class Topology(_Value):
    """Cells, regions and links: everything that placement may choose from."""

    cells: tuple[Cell, ...] = Field(min_length=1)
    regions: tuple[Region, ...] = Field(min_length=1)
    links: tuple[Link, ...] = ()
    source: str = "topology"
    """Where it was read from; error messages start with it."""

    @cached_property
    def _regions_by_name(self) -> dict[str, Region]:
        return {region.name: region for region in self.regions}

    @cached_property
    def _cells_by_name(self) -> dict[str, Cell]:
        return {cell.name: cell for cell in self.cells}

    @cached_property
    def _measured(self) -> dict[tuple[str, str], float]:
        measured = {(link.source, link.target): link.rtt_ms for link in self.links}
        # a link of one direction serves for both
        return {**{(target, source): rtt_ms for (source, target), rtt_ms in measured.items()}, **measured}

    @cached_property
    def _rtts_to(self) -> dict[str, tuple[float, ...]]:
        return {}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _once("cells", [cell.name for cell in self.cells])
        _once("regions", [region.name for region in self.regions])
        cells = {cell.name for cell in self.cells}
        regions = {region.name for region in self.regions}
        for cell in self.cells:
            _known(f"cells.{cell.name}.region", cell.region, regions, "region")
        for region in self.regions:
            _known(f"regions.{region.name}.cell", region.cell, cells, "cell")
            for served in region.serves:
                _known(f"regions.{region.name}.serves", served, cells, "cell")
            if region.serves and region.cell not in region.serves:
                raise ValueError(f"regions.{region.name}.serves: lacks its own cell {region.cell!r}; add it")
            for standby in region.standby or ():
                self._check_standby(region, standby)
        stores = {
            region.name: (region.store, region.jurisdictions) for region in self.regions if region.store
        }
        if shared := shared_elsewhere(stores):
            raise ValueError(
                f"regions.{shared[1]}.store: is that of {shared[0]}, which lies in other jurisdictions; "
                "give each its own"
            )
        for link in self.links:
            for end in (link.source, link.target):
                _known(f"links {link.source} → {link.target}", end, regions, "region")
        return self

    def _check_standby(self, region: Region, standby: str) -> None:
        key = f"regions.{region.name}.standby"
        names = {other.name for other in self.regions}
        _known(key, standby, names, "region")
        if standby == region.name:
            raise ValueError(f"{key}: is the region itself; name another, or [] for none")
        if not self.is_served(region.cell, self.region(standby)):
            raise ValueError(
                f"{key}: {standby!r} does not serve {region.name}'s cell {region.cell!r}; "
                f"add the cell to regions.{standby}.serves, or name another region"
            )

    @cached_property
    def _standbys(self) -> dict[str, tuple[Region, ...]]:
        return {region.name: tuple(self._standing_by(region)) for region in self.regions}

    def _standing_by(self, region: Region) -> Iterator[Region]:
        if region.standby is not None:
            yield from (self.region(name) for name in region.standby)
            return
        others = [
            other
            for other in self.regions
            if other.name != region.name and self.is_served(region.cell, other)
        ]
        if others:
            yield min(others, key=lambda other: (self.rtt_ms(region.name, other.name), other.name))

    def standbys(self, region: Region) -> tuple[Region, ...]:
        """The regions whose workers go on with this one's runs while its own are gone."""
        return self._standbys[region.name]

    def region(self, name: str) -> Region:
        """The region of this name.

        Raises:
            KeyError: There is none.
        """
        return self._regions_by_name[name]

    def has_region(self, name: str) -> bool:
        """Whether there is a region of this name."""
        return name in self._regions_by_name

    def cell(self, name: str) -> Cell:
        """The cell of this name.

        Raises:
            KeyError: There is none.
        """
        return self._cells_by_name[name]

    def served_cells(self, region: Region) -> tuple[str, ...]:
        """The cells whose queues the region's workers poll."""
        return region.serves or tuple(cell.name for cell in self.cells)

    def rtt_ms(self, a: str, b: str) -> float:
        """Round trip time between two regions: measured by a link, else estimated from coordinates.

        Raises:
            KeyError: One of them does not exist.
        """
        measured = self._measured.get((a, b))
        if measured is not None:
            return measured
        here, there = self.region(a), self.region(b)
        return INSIDE_A_REGION_MS if a == b else estimated_rtt_ms(here.coordinates, there.coordinates)

    @cached_property
    def rtts_to_own_cell_ms(self) -> tuple[float, ...]:
        """The same from every region, in order, to the server of its own cell."""
        return tuple(self.rtt_ms(region.name, self.cell(region.cell).region) for region in self.regions)

    def rtts_to_ms(self, target: str) -> tuple[float, ...]:
        """The same from every region, in order, to one of them; kept for the next time."""
        rtts_ms = self._rtts_to.get(target)
        if rtts_ms is None:
            rtts_ms = tuple(self.rtt_ms(region.name, target) for region in self.regions)
            self._rtts_to[target] = rtts_ms
        return rtts_ms

    def is_served(self, cell: str, region: Region) -> bool:
        """Whether the region's workers poll the queues of this cell."""
        return not region.serves or cell in region.serves


def _once(key: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{key}.{name}: is there twice; remove or rename one")


def _known(key: str, name: str, known: set[str], kind: str) -> None:
    if name not in known:
        raise ValueError(
            f"{key}: unknown {kind} {name!r}; name one of {_listed(known)} or declare [{kind}s.{name}]"
        )


def _listed(names: set[str]) -> str:
    shown = sorted(names)[:12]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")


def shortened(value: object) -> str:
    """A value as error messages show it: quoted, on one line, not longer than a line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
