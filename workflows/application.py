"""Everything that ships as one application: ``workflows:app`` for the command line and workers."""

from activities import (
    TOOLS,
    answer,
    check,
    choose,
    conclude,
    draft,
    find_products,
    focus,
    judge,
    look_up,
    quote,
    rank,
    recommend,
    retrieve,
)
from orchestrator import Application
from workflows.panel import AmericanReader, AsianReader, EuropeanReader, Panel
from workflows.personalise import Personalise
from workflows.react import React
from workflows.research import Research

app = Application(
    agents=[Research, React, Panel, EuropeanReader, AmericanReader, AsianReader, Personalise],
    steps=[
        retrieve,
        focus,
        quote,
        answer,
        draft,
        check,
        judge,
        choose,
        conclude,
        look_up,
        find_products,
        rank,
        recommend,
        *(tool.step for tool in TOOLS.values()),
    ],
)
