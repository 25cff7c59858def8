"""``python -m worker --region NAME``: serves a region with the agents that ship."""

import typer

from orchestrator.cli.main import told
from orchestrator.cli.options import TopologyOption
from orchestrator.cli.worker import ListenOption, LogFormatOption, RegionOption, run_worker
from orchestrator.telemetry import LogFormat


def serve(
    region: RegionOption,
    topology: TopologyOption = None,
    listen: ListenOption = None,
    log_format: LogFormatOption = LogFormat.AUTO,
) -> None:
    """Serve a region with the agents that ship, until SIGTERM or Ctrl-C, then drain."""
    run_worker("workflows:app", region, topology, listen, log_format=log_format)


if __name__ == "__main__":
    command = typer.Typer(pretty_exceptions_enable=False)
    command.command()(serve)
    told(command)
