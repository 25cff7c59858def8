from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.backends import sse

STREAM = (
    ": a comment\r\n\r\n"
    'data: {"text": "one\u2028line"}\r\n\r\n'
    "event: x\ndata:first\ndata: second\n\n"
    "id: 7\rdata: third\r\r"
    "data\n\n"
    "data: [DONE]\n\n"
    "data: cut"
).encode()
EVENTS = ['{"text": "one\u2028line"}', "first\nsecond", "third", "", "[DONE]"]


async def read(chunks):
    async def source():
        for chunk in chunks:
            yield chunk

    return [event.decode() async for event in sse.data(source())]


@given(st.sets(st.integers(min_value=1, max_value=len(STREAM) - 1)))
async def test_events_do_not_depend_on_how_the_bytes_arrive(cuts):
    bounds = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[start:end] for start, end in pairwise(bounds)]
    assert await read(chunks) == EVENTS


async def test_a_line_without_end_does_not_fill_the_memory():
    async def endless():
        while True:
            yield b"x" * 2**20

    try:
        async for _ in sse.data(endless()):
            raise AssertionError("there is no event in it")
    except sse.EventTooLargeError:
        return
    raise AssertionError("it ended")
