"""The page of a run in a real browser without a network, and what it is made of."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.async_api import Browser
from temporalio.client import Client, WorkflowFailureError

from orchestrator import EdgeClient
from orchestrator.cli.files import check_writable, write_text
from orchestrator.dispatch import EarlierPlace
from orchestrator.errors import ConfigurationError
from orchestrator.geography import Coordinates
from orchestrator.timing import CallTiming
from orchestrator.topology import Region, Topology
from orchestrator.trace import RunTrace, StepParts, read_run
from orchestrator.trace import page as page_module
from orchestrator.trace.page import render_page
from orchestrator.trace.page_data import page_of
from tests.browser import Opened, opened, started_browser
from tests.trace.page_agents import HOSTILE, Hostile, Patient, Single, Tour
from tests.trace.plain_workflows import QUEUE, Parent
from tests.trace.world import started_world

PAUSE_MS = 30


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EdgeClient]:
    async with started_world(tmp_path_factory.mktemp("world")) as client:
        yield client


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with started_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
async def tour(world: EdgeClient) -> RunTrace:
    """A run through three regions: two sub-agents at the same time, and a step that is tried twice."""
    run = await world.start(Tour.run, PAUSE_MS, origin="Lisbon")
    await run.result()
    return await read_run(world.cell("world"), run.id)


def written(run: RunTrace, topology: Topology, folder: Path) -> Path:
    file = folder / "run.html"
    write_text(file, render_page(run, topology))
    return file


def many_steps(run: RunTrace, count: int) -> RunTrace:
    """The same run, as if it had gone on with its second step again and again."""
    (step,) = (step for step in run.steps if step.step == "look_up")
    assert step.ended_at is not None
    took = step.ended_at - step.began_at
    steps = [
        step.model_copy(
            update={
                "began_at": step.began_at + n * took,
                "ended_at": step.ended_at + n * took,
                "step": f"look_up {n}",
            }
        )
        for n in range(count)
    ]
    ended_at = steps[-1].ended_at
    return run.model_copy(update={"steps": tuple(steps), "sub_agents": (), "ended_at": ended_at})


def of_step(kind: str, name: str) -> str:
    """The bar of a step on the chart, as those hear it who do not see it."""
    return f'#waterfall [aria-roledescription="{kind}"][aria-label^="{kind} {name}"]'


@dataclass(frozen=True)
class Done:
    """What a command did."""

    returncode: int | None
    stdout: str
    stderr: str


async def edgeward(*words: str, topology: Topology, folder: Path) -> Done:
    """Runs the command, as a process of its own."""
    (cell,) = topology.cells
    lines = [f"[cells.{cell.name}]", f'address = "{cell.address}"', f'region = "{cell.region}"']
    lines.append(f'namespace = "{cell.namespace}"')
    for region in topology.regions:
        lines += [f"[regions.{region.name}]", f"coordinates = {list(region.coordinates)}"]
        lines += [f'country = "{region.country}"', f'cell = "{region.cell}"']
    file = folder / "topology.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "orchestrator.cli", *words, "--topology", str(file)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return Done(process.returncode, out.decode(), err.decode())


async def chosen(opened_page: Opened) -> str:
    return await opened_page.text("#receipt .what")


# -- in the browser -------------------------------------------------------------------------------


async def test_a_click_on_a_step_shows_its_receipt(
    world: EdgeClient, tour: RunTrace, browser: Browser, tmp_path: Path
) -> None:
    async with opened(browser, written(tour, world.topology, tmp_path)) as found:
        bar = found.page.locator(of_step("step", "look_up in ashburn")).first
        await bar.click()
        assert await chosen(found) == "look_up"
        regions = await found.page.locator("#receipt .candidates tr.numbers").evaluate_all(
            "rows => rows.map(row => row.dataset.region)"
        )
        assert regions == ["ashburn", "singapore"]
        (step, *_) = (step for step in tour.steps if step.step == "look_up")
        assert step.wall_ms is not None
        assert tour.plan is not None
        planned = tour.plan.root.step("look_up")
        assert planned is not None
        row = await found.text("#receipt .candidates tr.numbers")
        for expected in ("chosen", "United States", f"{planned.chosen.cost.predicted_ms:,.0f}"):
            assert expected in row
        assert f"Took {step.wall_ms:,.0f} ms" in await found.text("#receipt [data-line=actual]")
        assert "against singapore, the best other place" in await found.text("#receipt [data-line=regret]")
        excluded = await found.text("#receipt .excluded li[data-region=frankfurt]")
        assert re.search(r"frankfurt\s+needs\s+lacks tool", excluded)
        parts = await found.text("#receipt .parts")
        assert "execution" in parts
        assert "queue wait" in parts


async def test_a_step_that_is_not_where_its_plan_has_it_says_why(
    world: EdgeClient, tour: RunTrace, browser: Browser, tmp_path: Path
) -> None:
    aside = EarlierPlace(place="singapore", reason="the region is set aside: <b>its worker fell silent</b>")
    steps = tuple(
        step.model_copy(update={"passed_over": (aside,)}) if step.step == "look_up" else step
        for step in tour.steps
    )
    run = tour.model_copy(update={"steps": steps})
    async with opened(browser, written(run, world.topology, tmp_path)) as found:
        await found.page.locator(of_step("step", "look_up in ashburn")).first.click()
        assert (
            await found.text("#receipt .remark")
            == f"It went to ashburn instead of singapore ({aside.reason})."
        )


async def test_the_list_of_steps_is_used_with_the_keyboard(
    world: EdgeClient, tour: RunTrace, browser: Browser, tmp_path: Path
) -> None:
    async with opened(browser, written(tour, world.topology, tmp_path)) as found:
        await found.page.focus("#steps tbody button >> nth=0")
        await found.page.keyboard.press("Enter")
        assert await chosen(found) == "ask"
        await found.page.keyboard.press("ArrowDown")
        assert await chosen(found) == "look_up"
        assert await found.page.get_attribute("#steps tbody button >> nth=1", "aria-pressed") == "true"
        await found.page.fill("#find", "stumble")
        assert await found.text("#count") == "1 of 8"
        await found.page.press("#find", "Tab")
        await found.page.locator("#steps tbody button").click()
        assert "2 attempts" in await found.text("#receipt .where")


async def test_the_page_says_what_the_run_was(
    world: EdgeClient, tour: RunTrace, browser: Browser, tmp_path: Path
) -> None:
    async with opened(browser, written(tour, world.topology, tmp_path), color_scheme="dark") as found:
        assert await found.text("h1") == "Tour"
        head = await found.text("header")
        assert tour.orchestration_ms is not None
        assert tour.slowest is not None
        for expected in (
            tour.workflow_id,
            "completed",
            "Lisbon, PT → answer",
            f"{tour.wall_ms:,.0f} ms",
            f"{tour.predicted_ms:,.0f} ms",
            f"{tour.orchestration_ms:,.0f} ms",
            tour.slowest.in_words,
        ):
            assert expected in head
        assert await found.text("#route") == "Lisbon, PT → frankfurt (home) → ashburn, singapore"
        assert await found.page.locator("#map .leg path").count() == 3
        lanes = await found.page.locator("#waterfall .lane-name text").all_text_contents()
        assert lanes == ["frankfurt", "ashburn", "singapore"]
        dark = await found.page.evaluate("getComputedStyle(document.body).backgroundColor")
        await found.page.click("#theme")
        assert await found.page.evaluate("getComputedStyle(document.body).backgroundColor") != dark


async def test_dragging_over_the_chart_looks_closer(
    world: EdgeClient, tour: RunTrace, browser: Browser, tmp_path: Path
) -> None:
    async with opened(browser, written(tour, world.topology, tmp_path)) as found:
        bar = found.page.locator(of_step("step", "stumble")).first
        before = await bar.bounding_box()
        box = await found.page.locator("#waterfall").bounding_box()
        assert before is not None
        assert box is not None
        await found.page.mouse.move(before["x"] - 10, box["y"] + 60)
        await found.page.mouse.down()
        await found.page.mouse.move(before["x"] + before["width"] + 10, box["y"] + 60, steps=3)
        await found.page.mouse.up()
        await found.page.wait_for_selector("#zoomed:not(:empty)")
        closer = await bar.bounding_box()
        assert closer is not None
        assert closer["width"] > before["width"] * 1.2
        await found.page.click("#zoom-all")
        await found.page.wait_for_selector("#zoomed:empty", state="attached")
        again = await bar.bounding_box()
        assert again is not None
        assert again["width"] == pytest.approx(before["width"], abs=2)


async def test_nothing_of_a_run_becomes_markup(world: EdgeClient, browser: Browser, tmp_path: Path) -> None:
    run = await world.start(Hostile.run, 1, origin="Lisbon")
    with pytest.raises(WorkflowFailureError):
        await run.result()
    file = written(await read_run(world.cell("world"), run.id), world.topology, tmp_path)
    assert HOSTILE not in file.read_text(encoding="utf-8")
    async with opened(browser, file) as found:
        assert await chosen(found) == HOSTILE
        assert HOSTILE in await found.text("#steps tbody")
        assert f"Ended with RuntimeError: {HOSTILE}" in await found.text("#remarks")
        await found.page.locator('#waterfall [aria-roledescription="step"]').hover()
        assert HOSTILE in await found.text("#tip")
        assert await found.page.locator("img").count() == 0
        assert await found.page.evaluate("window.broken === undefined")


async def test_the_policy_of_the_page_forbids_what_is_not_its_own(
    world: EdgeClient, tour: RunTrace, browser: Browser, tmp_path: Path
) -> None:
    file = written(tour, world.topology, tmp_path)
    before, end, after = file.read_text(encoding="utf-8").rpartition("</body>")
    file.write_text(f"{before}<script>window.broken = 1</script>{end}{after}", encoding="utf-8")
    with pytest.raises(AssertionError, match="Content Security Policy"):
        async with opened(browser, file) as found:
            assert await found.page.evaluate("window.broken === undefined")


async def test_a_thousand_steps_open_and_answer_clicks(
    world: EdgeClient, tour: RunTrace, browser: Browser, tmp_path: Path
) -> None:
    file = written(many_steps(tour, 1000), world.topology, tmp_path)
    assert file.stat().st_size < 3_000_000
    async with opened(browser, file) as found:
        assert await found.text("#count") == "1,000"
        await found.page.fill("#find", "look_up 777")
        await found.page.click("#steps tbody button")
        assert await chosen(found) == "look_up 777"
        await found.page.click("#zoom-in")
        assert await found.page.locator('#waterfall [aria-roledescription="step"]').count() == 1000


async def test_one_step_is_a_page_too(world: EdgeClient, browser: Browser, tmp_path: Path) -> None:
    run = await world.start(Single.run, PAUSE_MS, origin="frankfurt", residency="DE")
    await run.result()
    found_run = await read_run(world.cell("world"), run.id)
    async with opened(browser, written(found_run, world.topology, tmp_path)) as found:
        assert await chosen(found) == "ask"
        assert "where every step ran" in await found.text("#route")
        assert "There was no other place." in await found.text("#receipt")


async def test_a_run_that_goes_on_says_what_it_waits_for(
    world: EdgeClient, browser: Browser, tmp_path: Path
) -> None:
    run = await world.start(Patient.run, 1, origin="Lisbon")
    async with asyncio.timeout(20):
        while True:
            open_run = await read_run(world.cell("world"), run.id)
            # between its step and its wait the run has a turn, which is what it waits for then
            if open_run.pauses and "a signal or an update" in open_run.waits_for:
                break
            await asyncio.sleep(0.05)
    async with opened(browser, written(open_run, world.topology, tmp_path)) as found:
        assert await found.text("#status") == "running"
        assert "Waits for a signal or an update" in await found.text("#remarks")
        assert await found.page.locator(of_step("pause", "a signal or an update")).count() == 1
    await run.handle.signal(Patient.end)
    await run.result()


async def test_an_ordinary_run_has_no_receipts_and_no_path(
    traced: EdgeClient, plain: Client, browser: Browser, tmp_path: Path
) -> None:
    handle = await plain.start_workflow(Parent.run, 1, id="ordinary-page", task_queue=QUEUE)
    await handle.result()
    run = await read_run(plain, handle.id)
    async with opened(browser, written(run, traced.topology, tmp_path)) as found:
        assert "No receipt" in await found.text("#receipt")
        assert "No plan, so no path" in await found.text("#route")
        assert await found.page.locator("#map .leg path").count() == 0
        assert await found.page.locator("#map .spot path").count() == 1
        assert await found.page.locator('#waterfall [aria-roledescription="step"]').count() == 3
        assert await found.page.locator(of_step("pause", "timer")).count() == 1


# -- what it is made of ---------------------------------------------------------------------------


def test_the_stretches_of_a_step_follow_each_other_and_add_up(world: EdgeClient, tour: RunTrace) -> None:
    page = page_of(tour, world.topology)
    assert [lane.name for lane in page.lanes] == ["frankfurt", "ashburn", "singapore"]
    for bar in page.bars:
        assert 0 <= bar.began_ms <= bar.ended_ms <= page.span_ms
        if bar.kind != "step":
            continue
        stretches = [segment for segment in page.segments if segment.bar == bar.id]
        assert stretches[0].began_ms == bar.began_ms
        for before, after in pairwise(stretches):
            assert after.began_ms == pytest.approx(before.ended_ms, abs=0.01)
        assert stretches[-1].ended_ms == pytest.approx(bar.ended_ms, abs=5)
        (lane,) = (lane for lane in page.lanes if lane.name == bar.lane)
        assert lane.y <= bar.y < bar.y + bar.height <= lane.y + lane.height


def test_no_two_bars_lie_on_each_other(world: EdgeClient, tour: RunTrace) -> None:
    for run in (tour, many_steps(tour, 200)):
        bars = page_of(run, world.topology).bars
        for index, one in enumerate(bars):
            for other in bars[index + 1 :]:
                assert (
                    one.y != other.y
                    or one.ended_ms <= other.began_ms + 1e-6
                    or other.ended_ms <= one.began_ms + 1e-6
                )


def test_the_critical_path_goes_from_one_bar_to_the_next(world: EdgeClient, tour: RunTrace) -> None:
    page = page_of(tour, world.topology)
    critical = [bar for bar in page.bars if bar.is_critical and bar.kind == "step"]
    assert len(critical) == 6  # of the two sub-agents only the slower one's
    assert len(page.links) == 5
    assert sum(step.is_critical for step in page.steps) == 6


def test_the_same_run_gives_the_same_page(world: EdgeClient, tour: RunTrace) -> None:
    assert page_of(tour, world.topology) == page_of(tour, world.topology)


def test_a_call_to_a_model_is_told_inside_its_step(world: EdgeClient, tour: RunTrace) -> None:
    (step,) = (step for step in tour.steps if step.step == "look_up")
    chat = CallTiming(
        kind="model",
        name="chat",
        operation="chat",
        began_ms=10,
        took_ms=500,
        connect_ms=20,
        first_token_ms=200,
        input_tokens=7,
        output_tokens=3,
    )
    parts = StepParts(execution_ms=600)
    ended_at = step.began_at + timedelta(milliseconds=600)
    slow = step.model_copy(update={"calls": (chat,), "parts": parts, "ended_at": ended_at})
    run = tour.model_copy(update={"steps": (slow,), "sub_agents": (), "ended_at": ended_at})
    page = page_of(run, world.topology)
    (bar,) = (bar for bar in page.bars if bar.kind == "step")
    told = [
        (segment.part, round(segment.began_ms - bar.began_ms), round(segment.ended_ms - bar.began_ms))
        for segment in page.segments
        if segment.bar == bar.id
    ]
    assert told == [
        ("execution", 0, 600),
        ("connect", 10, 30),
        ("first_token", 30, 210),
        ("decode", 210, 510),
    ]
    assert page.steps[0].calls[0].decode_ms == 300


def test_a_call_that_claims_to_be_longer_than_its_step_ends_with_it(
    world: EdgeClient, tour: RunTrace
) -> None:
    (step,) = (step for step in tour.steps if step.step == "look_up")
    call = CallTiming(kind="tool", name="archive", began_ms=-50, took_ms=1e9)
    run = tour.model_copy(update={"steps": (step.model_copy(update={"calls": (call,)}),), "sub_agents": ()})
    page = page_of(run, world.topology)
    (told,) = (segment for segment in page.segments if segment.part == "call")
    (body,) = (segment for segment in page.segments if segment.part == "execution")
    assert (told.began_ms, told.ended_ms) == (body.began_ms, body.ended_ms)


def test_a_map_over_the_date_line_has_the_ocean_in_its_middle(world: EdgeClient, tour: RunTrace) -> None:
    cell = world.topology.cells[0].model_copy(update={"region": "tokyo"})
    places = (("tokyo", 35.7, 139.7, "JP"), ("oregon", 45.5, -122.7, "US"))
    regions = tuple(
        Region(name=name, coordinates=Coordinates(latitude, longitude), country=country, cell=cell.name)
        for name, latitude, longitude, country in places
    )
    ordinary = tour.model_copy(update={"plan": None, "steps": (), "sub_agents": (), "home": None})
    shown = page_of(ordinary, Topology(cells=(cell,), regions=regions)).map
    assert abs(shown.centre) > 160
    assert shown.legs == ()
    assert {spot.role for spot in shown.spots} == {"region"}


def test_a_region_that_the_topology_lacks_is_shown_without_a_country(
    world: EdgeClient, tour: RunTrace
) -> None:
    regions = tuple(region for region in world.topology.regions if region.name != "singapore")
    page = page_of(tour, world.topology.model_copy(update={"regions": regions}))
    (lane,) = (lane for lane in page.lanes if lane.name == "singapore")
    assert lane.detail == ""
    assert "singapore" not in {spot.name for spot in page.map.spots}


def test_the_page_names_no_address_to_load_from(world: EdgeClient, tour: RunTrace) -> None:
    text = render_page(tour, world.topology)
    assert not re.search(
        r"""<(?:script|img|link|iframe|source)[^>]+(?:src|href)=|@import|url\(""", text.split("<script")[0]
    )
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'")
    assert "unsafe-eval" not in policy[1]


# -- the command ----------------------------------------------------------------------------------


def test_without_the_extra_the_error_names_the_remedy(
    world: EdgeClient, tour: RunTrace, monkeypatch: pytest.MonkeyPatch
) -> None:
    page_module._library.cache_clear()
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(ConfigurationError, match=re.escape("pip install 'edgeward[html]'")):
        render_page(tour, world.topology)


async def test_the_command_writes_the_file_and_says_where(
    world: EdgeClient, tour: RunTrace, tmp_path: Path
) -> None:
    file = tmp_path / "run.html"
    done = await edgeward(
        "trace", tour.workflow_id, "--html", str(file), topology=world.topology, folder=tmp_path
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert f"written: {file}" in done.stderr
    assert tour.workflow_id in file.read_text(encoding="utf-8")
    told = await edgeward(
        *("trace", tour.workflow_id, "--html", str(tmp_path), "--output", "json"),
        topology=world.topology,
        folder=tmp_path,
    )
    assert (told.returncode, told.stdout) == (2, "")
    assert "is a folder" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_file_that_cannot_be_written_is_refused_before_a_cell_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is a folder"):
        check_writable(tmp_path)
    with pytest.raises(ConfigurationError, match="there is no folder"):
        check_writable(tmp_path / "nowhere" / "run.html")
    check_writable(tmp_path / "run.html")
    with pytest.raises(ConfigurationError, match="cannot be written: File name too long"):
        write_text(tmp_path / ("x" * 300), "")
