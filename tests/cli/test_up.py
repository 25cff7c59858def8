"""``edgeward up`` and ``edgeward run`` as a user has them: two processes and the embedded stack."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.signals import interruptible

CHECKOUT = Path(__file__).resolve().parent.parent.parent
EDGEWARD = (sys.executable, "-m", "orchestrator.cli")

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    folder = tmp_path_factory.mktemp("stack")
    process = subprocess.Popen(
        [
            *EDGEWARD,
            *("up", "--app", "tests.cli.guide:app", "--port", "0", "--folder", str(folder)),
            *("--regions", "eu-central,us-east", "--docs", "docs/concepts.md", "--db", str(folder / "db")),
        ],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=interruptible,
    )
    assert process.stdout is not None
    said: list[str] = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("Stop: Ctrl-C"):
            break
    else:
        raise AssertionError(f"the stack did not come up: {process.stderr.read() if process.stderr else ''}")
    assert any("/namespaces/eu-central/workflows" in line for line in said)
    yield process, folder
    process.kill()
    process.wait()


def ask(folder: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return edgeward("run", folder, *arguments, stdin=stdin)


def edgeward(
    command: str, folder: Path, *arguments: str, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*EDGEWARD, command, *arguments, "--folder", str(folder)],
        cwd=CHECKOUT,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_run_is_answered_near_its_user(stack: tuple[subprocess.Popen[str], Path]) -> None:
    _, folder = stack
    told = ask(
        folder, "guide", "--origin", "Boston", "--input", "-", "--output", "json", stdin="What is a cell?\n"
    )
    assert told.returncode == 0, told.stderr
    run = json.loads(told.stdout)
    assert (run["home"], run["cell"]) == ("us-east", "us-east")
    assert [step["step"] for step in run["steps"]] == ["find", "say"]
    assert {step["place"] for step in run["steps"]} == {"us-east"}
    assert run["steps"][0]["dispatch"] == "inline"
    assert "Temporal" in " ".join(run["result"]["passages"])


def test_people_see_the_answer_stream_and_a_table(stack: tuple[subprocess.Popen[str], Path]) -> None:
    _, folder = stack
    told = ask(folder, "guide", "--origin", "Lisbon", "--input", "What is a cell?", "--residency", "EU")
    assert told.returncode == 0, told.stderr
    assert "[say · eu-central] " in told.stdout
    assert told.stderr.count("round trip times from Lisbon, PT are estimated from coordinates") == 1
    assert "home eu-central · cell eu-central · residency EU" in told.stdout
    assert "predicted ms" in told.stdout


def test_a_run_is_traced_in_whichever_cell_has_it(stack: tuple[subprocess.Popen[str], Path]) -> None:
    _, folder = stack
    asked = ask(folder, "guide", "--origin", "Boston", "--input", "What is a cell?", "--output", "json")
    run = json.loads(asked.stdout)["workflow_id"]
    drawn = edgeward("trace", folder, run)
    assert drawn.returncode == 0, drawn.stderr
    assert "home us-east · cell us-east · from Boston, US" in drawn.stdout
    assert "critical path" in drawn.stdout
    told = json.loads(edgeward("trace", folder, run, "--output", "json").stdout)
    find, say = told["steps"]
    assert (find["step"], find["dispatch"], find["on_critical_path"]) == ("find", "inline", True)
    assert say["parts"]["execution_ms"] > 0
    assert [call["operation"] for call in find["calls"]] == ["embeddings", "search"]
    (chat,) = say["calls"]
    assert (chat["kind"], chat["name"], chat["error"]) == ("model", "chat", None)
    assert 0 < chat["first_token_ms"] < chat["took_ms"] <= say["parts"]["execution_ms"]
    assert chat["first_token_ms"] + chat["decode_ms"] == pytest.approx(chat["took_ms"], abs=0.01)
    assert chat["output_tokens"] == 12
    assert chat["input_tokens"] > 0
    assert chat["tokens_per_second"] > 0
    assert "first token" in drawn.stdout
    assert "→ 12 tokens" in drawn.stdout
    assert "collection handbook" in drawn.stdout
    receipt = edgeward("trace", folder, run, "--why", "say")
    assert receipt.returncode == 0, receipt.stderr
    assert "eu-central" in receipt.stdout
    assert "regret" in receipt.stdout
    assert edgeward("trace", folder, run, "--why", "sing").returncode == 2
    unknown = edgeward("trace", folder, "nobody")
    assert unknown.returncode == 1
    assert "unknown in cells eu-central, us-east" in unknown.stderr


def test_what_a_user_gets_wrong_is_told(stack: tuple[subprocess.Popen[str], Path]) -> None:
    _, folder = stack
    assert ask(folder, "nobody", "--origin", "Lisbon", "--input", "x").returncode == 2
    refused = ask(folder, "guide", "--origin", "Lisbon", "--input", "x", "--residency", "JP")
    assert refused.returncode == 1
    assert "because of the rule 'residency'" in refused.stderr
    refused = subprocess.run(
        [*EDGEWARD, "up", "--folder", str(folder), "--app", "tests.cli.guide:app", "--port", "0"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert refused.returncode == 1
    assert "a stack runs in" in refused.stderr


def test_control_c_ends_everything(stack: tuple[subprocess.Popen[str], Path]) -> None:
    process, folder = stack
    assert processes_of(folder)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert processes_of(folder) == []
    assert (
        ask(folder, "guide", "--origin", "Lisbon", "--input", "x", "--app", "tests.cli.guide:app").returncode
        == 1
    )


def processes_of(folder: Path) -> list[str]:
    """Command lines of the living processes that name the folder."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in line:
                found.append(line)
    return found
