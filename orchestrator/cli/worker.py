"""``edgeward worker``: the process that serves a region."""

import asyncio
from typing import Annotated

import typer

from orchestrator.application import load_application
from orchestrator.cli.deploy import DeploymentOption
from orchestrator.cli.options import TopologyOption, topology_of
from orchestrator.dispatch import DEFAULT_DEPLOYMENT, Build
from orchestrator.runtime import CACHED_RUNS, RegionWorker, event_loop
from orchestrator.telemetry import LogFormat, configure_logging

app = typer.Typer(help="Workers of regions.", no_args_is_help=True)

RegionOption = Annotated[str, typer.Option("--region", "-r", help="The region that it serves.")]
ListenOption = Annotated[
    str | None,
    typer.Option("--listen", help="HOST:PORT of its control endpoint. Default: loopback, the region's port."),
]
LogFormatOption = Annotated[
    LogFormat, typer.Option("--log-format", help="auto: text on a terminal, else JSON lines.")
]
BuildOption = Annotated[
    str | None,
    typer.Option(
        "--build-id",
        envvar="EDGEWARD_BUILD_ID",
        help="Which build of the application this is. Default: none, and runs go on with any worker.",
        show_default=False,
    ),
]


@app.callback()
def workers() -> None:
    """Workers of regions."""


@app.command("run")
def run_worker(
    application: Annotated[str, typer.Argument(help="Agents and steps, as module:attribute.")],
    region: RegionOption,
    topology: TopologyOption = None,
    listen: ListenOption = None,
    cached_runs: Annotated[
        int, typer.Option("--cached-runs", min=1, help="Open runs kept in memory, for each cell.")
    ] = CACHED_RUNS,
    build_id: BuildOption = None,
    deployment: DeploymentOption = DEFAULT_DEPLOYMENT,
    log_format: LogFormatOption = LogFormat.AUTO,
) -> None:
    """Serve a region until SIGTERM or Ctrl-C, then drain.

    Polls the region's queues in every cell that the topology tells it to. Its control endpoint
    answers /healthz, /readyz and /status.
    """
    configure_logging(log_format)
    worker = RegionWorker(
        topology_of(topology),
        region,
        load_application(application),
        listen=listen,
        cached_runs=cached_runs,
        build=Build(build_id, deployment) if build_id is not None else None,
    )
    with asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(worker.run())
