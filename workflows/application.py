"""Everything that ships as one application: ``workflows:app`` for the command line and workers."""

from activities import (
    TOOLS,
    answer,
    check,
    choose,
    conclude,
    find_places,
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
from workflows.panel import Librarian, Panel, Statistician, Surveyor
from workflows.personalise import Personalise
from workflows.react import React
from workflows.research import Research

app = Application(
    agents=[Research, React, Panel, Librarian, Statistician, Surveyor, Personalise],
    steps=[
        retrieve,
        focus,
        quote,
        answer,
        check,
        judge,
        choose,
        conclude,
        find_places,
        look_up,
        find_products,
        rank,
        recommend,
        *(tool.step for tool in TOOLS.values()),
    ],
)
