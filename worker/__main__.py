"""``python -m worker --region NAME``: serves a region with the agents that ship."""

import typer

from orchestrator.cli.deploy import DeploymentOption
from orchestrator.cli.main import told
from orchestrator.cli.options import TopologyOption
from orchestrator.cli.worker import BuildOption, ListenOption, LogFormatOption, RegionOption, run_worker
from orchestrator.dispatch import DEFAULT_DEPLOYMENT
from orchestrator.telemetry import LogFormat


def serve(
    region: RegionOption,
    topology: TopologyOption = None,
    listen: ListenOption = None,
    build_id: BuildOption = None,
    deployment: DeploymentOption = DEFAULT_DEPLOYMENT,
    log_format: LogFormatOption = LogFormat.AUTO,
) -> None:
    """Serve a region with the agents that ship, until SIGTERM or Ctrl-C, then drain."""
    run_worker(
        "workflows:app",
        region,
        topology,
        listen,
        build_id=build_id,
        deployment=deployment,
        log_format=log_format,
    )


if __name__ == "__main__":
    command = typer.Typer(pretty_exceptions_enable=False)
    command.command()(serve)
    told(command)
