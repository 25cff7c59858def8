"""The steps that ship: model calls, lookups and tools. Each is a decorator and a call to a backend."""

from activities.answers import Judgement, Opinion, Verdict, answer, check, draft, judge
from activities.choices import Choice, Note, Style, choose, conclude
from activities.retrieval import Passage, Quote, focus, quote, retrieve
from activities.shop import Customer, Product, find_products, look_up, rank, recommend
from activities.tools import (
    TOOLS,
    Observation,
    calculator,
    distance,
    local_time,
    population,
    unit_conversion,
)

__all__ = [
    "TOOLS",
    "Choice",
    "Customer",
    "Judgement",
    "Note",
    "Observation",
    "Opinion",
    "Passage",
    "Product",
    "Quote",
    "Style",
    "Verdict",
    "answer",
    "calculator",
    "check",
    "choose",
    "conclude",
    "distance",
    "draft",
    "find_products",
    "focus",
    "judge",
    "local_time",
    "look_up",
    "population",
    "quote",
    "rank",
    "recommend",
    "retrieve",
    "unit_conversion",
]
