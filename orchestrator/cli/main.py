"""Puts the commands together and turns errors into messages and exit codes.

0: done. 1: it failed. 2: what the user wrote cannot be used. 130: interrupted.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

import typer

from orchestrator.cli import deploy, plan, reconcile, regions, run, runs, setup, stack, top, trace, worker
from orchestrator.errors import ConfigurationError, EdgewardError
from orchestrator.telemetry import stop_telemetry

app = typer.Typer(
    name="edgeward",
    help="Runs each step of an AI agent in the region that serves the user best.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(regions.app, name="regions")
app.add_typer(reconcile.app, name="cells")
app.add_typer(plan.app, name="plan")
app.add_typer(runs.app, name="runs")
app.add_typer(worker.app, name="worker")
app.add_typer(deploy.app, name="deploy")
app.command("up")(stack.up)
app.command("run")(run.run)
app.command("trace")(trace.trace)
app.command("setup")(setup.setup)
app.command("top")(top.top)
app.command("demo")(stack.demo)


def main() -> NoReturn:
    """The command's entry point."""
    told(app)


def told(command: Callable[[], object]) -> NoReturn:
    """Runs a command and ends the process: errors as one message, and an exit code."""
    code = _exit_code(command)
    stop_telemetry()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError):
            stream.flush()
    # Not sys.exit: a call to a cell that was cancelled may still end on a thread of Temporal's core,
    # and one that needs Python while the interpreter goes away aborts the process
    # (https://github.com/temporalio/sdk-python/issues/300).
    os._exit(code)


def _exit_code(command: Callable[[], object]) -> int:
    try:
        command()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except ConfigurationError as error:
        return _failed(error, 2)
    except EdgewardError as error:
        return _failed(error, 1)
    except BrokenPipeError:
        return 0  # whoever read our output has seen enough
    except KeyboardInterrupt:
        return 130
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _failed(error: EdgewardError, code: int) -> int:
    print(f"edgeward: {error}", file=sys.stderr)
    return code
