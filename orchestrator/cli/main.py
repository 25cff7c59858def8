"""Puts the commands together and turns errors into messages and exit codes.

0: done. 1: it failed. 2: what the user wrote cannot be used. 130: interrupted.
"""

import sys
from collections.abc import Callable
from typing import NoReturn

import typer

from orchestrator.cli import plan, regions, run, stack, worker
from orchestrator.errors import ConfigurationError, EdgewardError

app = typer.Typer(
    name="edgeward",
    help="Runs each step of an AI agent in the region that serves the user best.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(regions.app, name="regions")
app.add_typer(plan.app, name="plan")
app.add_typer(worker.app, name="worker")
app.command("up")(stack.up)
app.command("run")(run.run)
app.command("demo")(stack.demo)


def main() -> NoReturn:
    """The command's entry point."""
    told(app)


def told(command: Callable[[], object]) -> NoReturn:
    """Runs a command and ends the process: errors as one message, and an exit code."""
    try:
        command()
    except ConfigurationError as error:
        _fail(error, 2)
    except EdgewardError as error:
        _fail(error, 1)
    except BrokenPipeError:
        # whoever read our output has seen enough
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _fail(error: EdgewardError, code: int) -> NoReturn:
    print(f"edgeward: {error}", file=sys.stderr)
    sys.exit(code)
