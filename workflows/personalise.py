"""``personalise``: look a customer up, find and rank what fits, and say it in a sentence."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from pydantic import Field

    from activities.shop import Product, find_products, look_up, rank, recommend
    from activities.values import Value
    from orchestrator import agent, call


class Visit(Value):
    """A customer who comes by."""

    customer: str = Field(min_length=1)
    """The customer's number, such as ``c-102``."""

    wish: str = ""
    """What is wanted today, in the customer's own words."""

    count: int = Field(default=3, ge=1, le=10)


class Suggestion(Value):
    """What to show."""

    text: str
    products: tuple[Product, ...]
    """The best one first."""


@agent(name="personalise", steps={look_up: 1, find_products: 1, rank: 1, recommend: 1})
class Personalise:
    """Shows a chain of short steps and one long one: the short ones run inline where they are at home.

    The customer's data is read by two steps only. Start it with a residency, and none of its
    steps sees a region outside: ``--residency EU``.
    """

    @workflow.run
    async def run(self, visit: Visit) -> Suggestion:
        """Suggest something to a customer."""
        customer = await call(look_up, visit.customer)
        wanted = [*customer.interests, *visit.wish.split()]
        found = await call(find_products, wanted, list(customer.bought))
        best = await call(rank, ", ".join([*customer.interests, visit.wish]), found, visit.count)
        if not best:
            return Suggestion(text="There is nothing that fits today.", products=())
        text = await call(recommend, customer, best)
        return Suggestion(text=text, products=tuple(best))
