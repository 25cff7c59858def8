"""One self-contained HTML file of a run: no server, no network, nothing beside it.

The charts are drawn in the reader's browser by Vega, whose JavaScript is written into the file; it comes
from the package ``vl-convert-python``. The coastlines are Natural Earth's (public domain) at 1:110 million,
as TopoJSON by the package ``world-atlas`` 2.0.2.

What comes from a run is written as JSON in which no character is markup, and the script makes text nodes
of it. The page's own policy lets it load nothing and run no script but the two that are in it.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from base64 import b64encode
from functools import cache
from importlib.resources import files

from orchestrator.errors import ConfigurationError
from orchestrator.topology import Topology
from orchestrator.trace.page_data import page_of
from orchestrator.trace.run_trace import RunTrace

_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")

_MARKUP = {
    ord("<"): "\\u003c",
    ord(">"): "\\u003e",
    ord("&"): "\\u0026",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}
"""As JSON writes them, so that no text ends the element that holds it."""


def render_page(run: RunTrace, topology: Topology) -> str:
    """The page of a run, as HTML.

    Args:
        run: The trace of a run.
        topology: Where its regions are.

    Raises:
        ConfigurationError: The extra ``html`` is not installed.
    """
    library, script = _library(), _asset("page.js")
    parts = {
        "title": html.escape(f"{run.agent} · {run.workflow_id}"),
        "policy": _policy(library, script),
        "style": _asset("page.css"),
        "data": page_of(run, topology).model_dump_json().translate(_MARKUP),
        "waterfall": _compact_json("waterfall.json"),
        "map": _compact_json("map.json"),
        "land": _compact_json("land-110m.json"),
        "library": library,
        "script": script,
    }
    # in one pass: what is put in is not looked at again
    return _PLACEHOLDER.sub(lambda found: parts[found[1]], _asset("page.html"))


def _policy(*scripts: str) -> str:
    """What the browser lets the page do: run these scripts, and nothing else."""
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src {hashes}"


def _digest(script: str) -> str:
    return b64encode(hashlib.sha256(script.encode()).digest()).decode()


@cache
def _library() -> str:
    """Vega, as one script.

    Raises:
        ConfigurationError: The extra ``html`` is not installed.
    """
    try:
        import vl_convert
    except ImportError as error:
        raise ConfigurationError(
            "--html needs the package vl-convert-python, which is not installed; pip install 'edgeward[html]'"
        ) from error
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def _compact_json(name: str) -> str:
    return json.dumps(json.loads(_asset(name)), separators=(",", ":")).translate(_MARKUP)


def _asset(name: str) -> str:
    return (files("orchestrator.trace") / "page_assets" / name).read_text(encoding="utf-8")
