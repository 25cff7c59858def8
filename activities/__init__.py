"""The steps that ship: model calls, lookups and tools. Each is a decorator and a call to a backend."""

from activities.answers import Judgement, Report, Verdict, answer, check, judge
from activities.choices import Choice, Note, Style, choose, conclude, find_places
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
    "Passage",
    "Product",
    "Quote",
    "Report",
    "Style",
    "Verdict",
    "answer",
    "calculator",
    "check",
    "choose",
    "conclude",
    "distance",
    "find_places",
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
