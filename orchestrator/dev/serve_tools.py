"""Real tool APIs: over plain HTTP and over MCP (streamable HTTP), on one port.

``python -m orchestrator.dev.serve_tools --port 8082`` serves ``/tools/NAME`` (GET describes the tool,
POST runs it with its arguments as a JSON object) and ``/mcp``, on loopback unless ``--host`` says otherwise.
"""

import argparse
import asyncio
import functools
import json
from collections.abc import Callable
from typing import Any, cast

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError as McpToolError
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ArgsKwargs
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse

from orchestrator.dev.tool_functions import OVER_HTTP, OVER_MCP, Result, ToolFailedError
from orchestrator.geography import resolve_origin

LARGEST_BODY = 64 * 1024


def application(host: str = "127.0.0.1") -> Starlette:
    """The server of all tools.

    Args:
        host: Where it listens. On loopback, MCP answers only who calls it by a name of loopback, so that no
            page in a browser on this machine can.
    """
    server: MCPServer[Any] = MCPServer("edgeward-tools", log_level="WARNING")
    for name, function in OVER_MCP.items():
        server.add_tool(_for_mcp(function), name=name, structured_output=True)
    for name, function in OVER_HTTP.items():
        server.custom_route(f"/tools/{name}", methods=["GET", "POST"])(_HttpTool(name, function).answer)
    server.custom_route("/tools", methods=["GET"])(_names)
    server.custom_route("/health", methods=["GET"])(_health)
    return server.streamable_http_app(host=host)


def _for_mcp(function: Callable[..., Result]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def run(*arguments: object, **named: object) -> Result:
        try:
            return await asyncio.to_thread(function, *arguments, **named)
        except ToolFailedError as error:
            raise McpToolError(str(error)) from error

    return run


class _HttpTool:
    """One tool behind a URL."""

    def __init__(self, name: str, function: Callable[..., Result]) -> None:
        self._name = name
        # pydantic takes a function for the type of its arguments; validating them calls it
        self._arguments: TypeAdapter[Result] = TypeAdapter(cast("Any", function))
        self._description = (function.__doc__ or "").strip().partition("\n\n")[0]

    async def answer(self, request: Request) -> JSONResponse:
        if request.method == "GET":
            return JSONResponse(
                {
                    "name": self._name,
                    "description": self._description,
                    "parameters": self._arguments.json_schema(),
                }
            )
        body = await request.body()
        if len(body) > LARGEST_BODY:
            return _failed(413, f"the arguments are larger than {LARGEST_BODY} bytes")
        try:
            arguments: object = json.loads(body or b"{}")
        except (ValueError, RecursionError):
            return _failed(400, "the arguments are no JSON")
        if not isinstance(arguments, dict):
            return _failed(400, "the arguments are no JSON object")
        named = ArgsKwargs((), cast("dict[str, Any]", arguments))
        try:
            return JSONResponse(await asyncio.to_thread(self._arguments.validate_python, named))
        except ValidationError as error:
            finding = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in finding["loc"])
            return _failed(422, f"{where}: {finding['msg']}")
        except ToolFailedError as error:
            return _failed(422, str(error))


def _failed(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status_code=status)


async def _names(_: Request) -> JSONResponse:
    return JSONResponse({"tools": list(OVER_HTTP)})


async def _health(_: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port")
    parser.add_argument("--host", default="127.0.0.1", help="address of the interface; default: loopback")
    arguments = parser.parse_args()
    resolve_origin("Lisbon", {})  # reads the tables of cities, which takes a second, before somebody waits
    uvicorn.run(
        application(arguments.host),
        host=arguments.host,
        port=arguments.port,
        log_level="warning",
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main()
