"""A small invented outdoor shop, for agents that suggest something to a customer.

Customers are numbers with interests; nobody is behind them.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Product(NamedTuple):
    """Something in the catalogue."""

    number: str
    name: str
    price_eur: float
    tags: frozenset[str]


class Customer(NamedTuple):
    """What the shop knows of somebody."""

    number: str
    city: str
    language: str
    interests: tuple[str, ...]
    bought: tuple[str, ...]
    """Numbers of products, the latest last."""


def _product(number: str, name: str, price_eur: float, tags: str) -> Product:
    return Product(number, name, price_eur, frozenset(tags.split()))


PRODUCTS = (
    _product("p-01", "two-person tent, 1.9 kg", 289.0, "camping hiking shelter"),
    _product("p-02", "down sleeping bag, comfort -4 °C", 219.0, "camping winter sleep"),
    _product("p-03", "inflatable sleeping mat", 79.0, "camping sleep"),
    _product("p-04", "gas stove, 83 g", 39.5, "camping cooking hiking"),
    _product("p-05", "titanium pot, 0.9 l", 54.0, "camping cooking"),
    _product("p-06", "hiking boots, waterproof", 189.0, "hiking shoes"),
    _product("p-07", "trail running shoes", 129.0, "running shoes trail"),
    _product("p-08", "rucksack, 45 l", 149.0, "hiking camping luggage"),
    _product("p-09", "running vest with two flasks", 89.0, "running trail luggage"),
    _product("p-10", "trekking poles, carbon", 119.0, "hiking trail"),
    _product("p-11", "climbing harness", 64.0, "climbing"),
    _product("p-12", "dry rope, 60 m", 169.0, "climbing"),
    _product("p-13", "set of six quickdraws", 79.0, "climbing"),
    _product("p-14", "climbing shoes", 109.0, "climbing shoes"),
    _product("p-15", "touring bicycle pannier, pair", 139.0, "cycling luggage"),
    _product("p-16", "bicycle light set", 69.0, "cycling light"),
    _product("p-17", "cycling rain jacket", 119.0, "cycling rain clothing"),
    _product("p-18", "head torch, 400 lm", 49.0, "hiking camping light running"),
    _product("p-19", "merino shirt", 75.0, "hiking cycling clothing"),
    _product("p-20", "hard-shell jacket", 279.0, "hiking winter rain clothing"),
    _product("p-21", "snow shoes", 159.0, "winter hiking shoes"),
    _product("p-22", "sea kayak paddle", 199.0, "paddling water"),
    _product("p-23", "dry bag, 20 l", 29.0, "paddling water luggage"),
    _product("p-24", "water filter", 44.0, "hiking camping water"),
)

CUSTOMERS = {
    customer.number: customer
    for customer in (
        Customer("c-101", "Lisbon", "pt", ("cycling", "rain"), ("p-16",)),
        Customer("c-102", "Hamburg", "de", ("camping", "cooking"), ("p-01", "p-03")),
        Customer("c-103", "Boston", "en", ("climbing",), ("p-11",)),
        Customer("c-104", "Singapore", "en", ("paddling", "water"), ()),
        Customer("c-105", "Osaka", "ja", ("hiking", "winter"), ("p-06", "p-20")),
        Customer("c-106", "Porto Alegre", "pt", ("running", "trail"), ("p-07",)),
        Customer("c-107", "Denver", "en", ("hiking", "trail", "light"), ("p-10",)),
        Customer("c-108", "Zürich", "de", ("climbing", "shoes"), ("p-12", "p-13")),
        Customer("c-109", "Bordeaux", "fr", ("cycling", "luggage", "clothing"), ()),
        Customer("c-110", "Melbourne", "en", ("camping", "sleep"), ("p-08",)),
    )
}


def matching(wanted: Iterable[str], *, leave_out: Iterable[str] = (), limit: int = 5) -> list[Product]:
    """Products with most of these tags or words of their name first; none without any of them.

    Args:
        wanted: Words such as ``hiking`` or ``tent``.
        leave_out: Numbers of products that are not wanted.
        limit: How many at most.
    """
    words = {word.casefold().strip(" ,.") for text in wanted for word in text.split()}
    without = set(leave_out)
    scored = [
        (len(words & (product.tags | set(product.name.casefold().replace(",", "").split()))), product)
        for product in PRODUCTS
        if product.number not in without
    ]
    found = sorted((pair for pair in scored if pair[0]), key=lambda pair: (-pair[0], pair[1].number))
    return [product for _, product in found[:limit]]
