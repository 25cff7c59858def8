"""Steps of a shop: who the customer is, what fits, what to say."""

from __future__ import annotations

from datetime import timedelta

from pydantic import ConfigDict

from activities.texts import cosine
from activities.values import Value
from orchestrator import Needs, backends, step
from orchestrator.backends import Message


class Customer(Value):
    """What the shop knows of a customer."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    customer: str
    city: str
    language: str
    interests: tuple[str, ...]
    bought: tuple[str, ...] = ()


class Product(Value):
    """Something that the shop sells."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    product: str
    name: str
    price_eur: float
    tags: tuple[str, ...] = ()


class _Found(Value):
    products: tuple[Product, ...]


@step(
    needs=Needs(tool="profile"),
    timeout=timedelta(seconds=20),
    expected=(timedelta(milliseconds=20), timedelta(milliseconds=200)),
)
async def look_up(customer: str) -> Customer:
    """What the shop knows of the customer with this number."""
    result = await backends.tool("profile").call({"customer": customer})
    return Customer.model_validate(result.data)


@step(
    needs=Needs(tool="catalogue"),
    timeout=timedelta(seconds=20),
    expected=(timedelta(milliseconds=20), timedelta(milliseconds=200)),
)
async def find_products(wanted: list[str], leave_out: list[str], limit: int = 12) -> list[Product]:
    """Products that match one of these words."""
    result = await backends.tool("catalogue").call({"wanted": wanted, "leave_out": leave_out, "limit": limit})
    return list(_Found.model_validate(result.data).products)


@step(
    needs=Needs(model="embed"),
    timeout=timedelta(seconds=60),
    expected=(timedelta(milliseconds=100), timedelta(milliseconds=500)),
)
async def rank(wish: str, products: list[Product], count: int = 3) -> list[Product]:
    """The products nearest in meaning to what the customer likes and wishes, the nearest first."""
    if not products:
        return []
    model = backends.model("embed")
    [wanted] = await model.embed([wish], purpose="query")
    vectors = await model.embed([f"{product.name} {' '.join(product.tags)}" for product in products])
    scored = sorted(
        zip(products, vectors, strict=True), key=lambda pair: (-cosine(wanted, pair[1]), pair[0].product)
    )
    return [product for product, _ in scored[:count]]


@step(
    needs=Needs(model="chat"),
    timeout=timedelta(seconds=120),
    expected=(timedelta(seconds=1), timedelta(seconds=4)),
)
async def recommend(customer: Customer, products: list[Product]) -> str:
    """A sentence about the products, streamed to the user as the model writes it."""
    messages = [
        Message.system("You recommend products in one friendly sentence."),
        Message.user("I like paddling and water. Recommend: a dry bag and a sea kayak paddle."),
        Message.assistant("For your days on the water, I recommend the dry bag and the sea kayak paddle."),
        Message.user("I like running. Recommend: trail running shoes."),
        Message.assistant("For your next run, I recommend the trail running shoes."),
        Message.user(
            f"I like {' and '.join(customer.interests)}. "
            f"Recommend: {' and '.join(product.name for product in products)}."
        ),
    ]
    reply = await backends.model("chat").chat_streaming(messages, max_tokens=80, temperature=0, stop=["\n"])
    return reply.text.strip()
