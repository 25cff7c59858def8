"""Fuzzing guided by coverage, by atheris: ``python -m tests.fuzz.coverage_guided TARGET [its options]``.

Atheris is no dependency: it needs a compiler's runtime that not every machine has. Install it into an
environment of its own, together with this project: ``pip install atheris -e .``. A finding is a
file ``crash-...``; given as an argument it is tried again.
"""

import contextlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris
from pydantic import ValidationError

with atheris.instrument_imports(include=["orchestrator"]):
    from temporalio.api.common.v1 import Payload

    from orchestrator.backends.openai_format import ArgumentsError, CallAssembly, ChatChunk, ChatResponse
    from orchestrator.dispatch.headers import ASSIGNMENT_HEADER, PLAN_HEADER, assignment_of, plan_of
    from orchestrator.dispatch.payloads.converter import data_converter
    from orchestrator.errors import ConfigurationError, TopologyError, UnreadablePayloadError
    from orchestrator.fleet.status import WorkerStatus
    from orchestrator.streams import NumberedPiece
    from orchestrator.timing import TIMING, timing_of
    from orchestrator.topology import load_topology

_file = Path(tempfile.mkdtemp(prefix="edgeward-fuzz-")) / "topology.toml"
_converter = data_converter(None, None).payload_converter


def topology(data: bytes) -> None:
    _file.write_bytes(data)
    try:
        load_topology(_file)
    except TopologyError as error:
        assert "\n" not in str(error)


def header(data: bytes) -> None:
    encoding = b"json/plain" if data[:1] < b"\x80" else b"json/zlib"
    payload = Payload(metadata={"encoding": encoding}, data=data[1:])
    for read, name in ((plan_of, PLAN_HEADER), (assignment_of, ASSIGNMENT_HEADER)):
        with contextlib.suppress(ConfigurationError):
            read({name: payload})
    timing_of(Payload(metadata={TIMING: data[1:]}))


def payload(data: bytes) -> None:
    given = atheris.FuzzedDataProvider(data)
    encodings = [
        b"json/plain",
        b"binary/plain",
        b"binary/null",
        b"json/protobuf",
        b"binary/protobuf",
        b"\xff",
    ]
    metadata = {
        "encoding": given.PickValueInList(encodings),
        "messageType": given.PickValueInList([b"temporal.api.common.v1.Payload", b"x", b"\xff"]),
    }
    hint = given.PickValueInList([None, int, str, list[int], dict[str, str], Payload])
    with contextlib.suppress(UnreadablePayloadError):
        _converter.from_payloads(
            [Payload(metadata=metadata, data=given.ConsumeBytes(10_000))], None if hint is None else [hint]
        )


def model(data: bytes) -> None:
    with contextlib.suppress(ValidationError, ArgumentsError):
        ChatResponse.model_validate_json(data).completion()
    try:
        assembly = CallAssembly()
        for choice in ChatChunk.model_validate_json(data).choices or ():
            assembly.add(choice.delta.tool_calls or ())
        assembly.calls()
    except (ValidationError, ArgumentsError):
        pass


def process(data: bytes) -> None:
    for value in (NumberedPiece, WorkerStatus):
        with contextlib.suppress(ValidationError):
            value.model_validate_json(data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (topology, header, payload, model, process)
}

if __name__ == "__main__":
    if sys.argv[1:2] == [] or sys.argv[1] not in TARGETS:
        sys.exit(f"name a target: {', '.join(TARGETS)}")
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
