"""Models behind an OpenAI-compatible API: llama.cpp, vLLM, NVIDIA NIM and their like."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal, Unpack

import httpx

from orchestrator.backends import contents, sse
from orchestrator.backends.endpoint import Endpoint
from orchestrator.backends.http import Deadline, HttpEndpoint, bounded
from orchestrator.backends.messages import Completion, Message, Piece
from orchestrator.backends.observed import Call
from orchestrator.backends.openai_format import (
    ArgumentsError,
    CallAssembly,
    ChatChunk,
    ChatOptions,
    ChatRequest,
    ChatResponse,
    EmbeddingResponse,
    ModelList,
    TokenUsage,
)
from orchestrator.backends.operations import minor_operation, model_operation
from orchestrator.backends.shapes import ShapeError, parsed_as
from orchestrator.context import current_step, emit
from orchestrator.errors import (
    BackendError,
    BackendFaultError,
    BackendRefusedError,
    MalformedResponseError,
    SchemaViolationError,
    StreamInterruptedError,
)
from orchestrator.telemetry import names
from orchestrator.telemetry.switches import contents_captured

Purpose = Literal["query", "passage"]
"""What a text is embedded for: to ask with, or to be found."""

EMBEDDINGS_PER_REQUEST = 32
"""Few enough that a question does not wait long behind a batch of passages."""

HEALTH_TIMEOUT = timedelta(seconds=5)

END_WITHIN = timedelta(milliseconds=100)
"""How long the end of a stream may come after its last event; a new connection costs less."""

_HEALTH_PATHS = ("/health", "/v1/health/ready")
"""llama.cpp and vLLM; NVIDIA NIM. An endpoint with neither is asked for its models."""


class Model:
    """A model that a region offers. Made by ``Backends.model``."""

    def __init__(self, endpoint: Endpoint, client: httpx.AsyncClient) -> None:
        self._http = HttpEndpoint(endpoint, client)
        self._model = endpoint.target
        self._takes_purpose = True
        self._chat = model_operation(endpoint, "model", names.CHAT)
        self._embeddings = model_operation(endpoint, "embedding", names.EMBEDDINGS)
        self._models = minor_operation(endpoint, "model", "models")

    async def chat(self, messages: Sequence[Message], **options: Unpack[ChatOptions]) -> Completion:
        """The model's answer to a conversation.

        Args:
            messages: What was said so far; the last one is what it answers.
            options: See ``ChatOptions``.

        Raises:
            BackendError: The endpoint failed; the class and its ``recovery`` say how.
            SchemaViolationError: The answer, or the arguments of a tool call, break their schema.
        """
        request = _allowed(ChatRequest(**options))
        deadline = Deadline(request.timeout)
        asked = request.body(self._model, messages, stream=False)
        with Call(self._chat) as call:
            _tell_request(call, request, messages, stream=False)
            url = self._http.url("/chat/completions")
            body = await self._http.request(
                "POST", url, deadline, json=asked, repeatable=not _is_counted(), call=call
            )
            response = self._http.parsed(ChatResponse, body.content)
            _tell_usage(call, response.usage)
            _settle(request, response.usage)
            try:
                completion = response.completion()
            except ArgumentsError as error:
                raise self._http.error(SchemaViolationError, str(error)) from None
            _tell_answer(call, completion, completion.text)
        return self._checked(completion, request)

    async def stream(
        self, messages: Sequence[Message], **options: Unpack[ChatOptions]
    ) -> AsyncGenerator[Piece]:
        """The answer in pieces, as the model writes it. The last has finish reason, tool calls and usage.

        A ``schema`` is asked for but not checked here: an answer can be checked only when it is whole.
        Leave a loop over it early only inside of ``contextlib.aclosing``, so that the connection is freed.

        Raises:
            StreamInterruptedError: It ended before its last piece.
            BackendError: The endpoint failed in another way.
        """
        request = _allowed(ChatRequest(**options))
        async with aclosing(self._pieces(messages, request)) as pieces:
            async for piece in pieces:
                yield piece

    async def chat_streaming(self, messages: Sequence[Message], **options: Unpack[ChatOptions]) -> Completion:
        """Like ``chat``, while each piece goes to whoever follows the run (``orchestrator.context.emit``).

        Raises:
            StreamInterruptedError: It ended before its last piece.
            BackendError: As of ``chat``.
        """
        request = _allowed(ChatRequest(**options))
        text: list[str] = []
        last = Piece()
        async with aclosing(self._pieces(messages, request)) as pieces:
            async for piece in pieces:
                last = piece
                if piece.text:
                    text.append(piece.text)
                    emit(piece.text)
        completion = Completion(
            text="".join(text),
            tool_calls=last.tool_calls,
            finish_reason=last.finish_reason,
            usage=last.usage,
            model=last.model,
            id=last.id,
        )
        return self._checked(completion, request)

    async def embed(
        self, texts: Sequence[str], *, purpose: Purpose = "passage", timeout: timedelta | None = None
    ) -> list[list[float]]:
        """A vector for each text, in their order.

        Models of the E5 kind embed a question and a passage differently: ``purpose`` is sent as
        ``input_type``, and left out from then on where an endpoint refuses that field.

        Args:
            texts: What to embed.
            purpose: ``query`` for what is asked, ``passage`` for what is to be found.
            timeout: For all of them together; default as in ``ChatOptions``.

        Raises:
            BackendError: The endpoint failed; the class says how.
        """
        deadline = Deadline(timeout)
        vectors: list[list[float]] = []
        if not texts:
            return vectors
        with Call(self._embeddings) as call:
            for start in range(0, len(texts), EMBEDDINGS_PER_REQUEST):
                batch = list(texts[start : start + EMBEDDINGS_PER_REQUEST])
                vectors += await self._embedded(batch, purpose, deadline, call)
            call.describe({names.EMBEDDINGS_DIMENSION_COUNT: len(vectors[0])})
        return vectors

    async def models(self, *, timeout: timedelta | None = None) -> list[str]:
        """The ids of the models that the endpoint serves.

        Raises:
            BackendError: The endpoint failed; the class says how.
        """
        deadline = Deadline(timeout)
        with Call(self._models) as call:
            body = await self._http.request("GET", self._http.url("/models"), deadline, call=call)
        return [model.id for model in self._http.parsed(ModelList, body.content).data]

    async def health(self, *, timeout: timedelta = HEALTH_TIMEOUT) -> bool:
        """Whether the endpoint says that it is ready. Never fails for what the endpoint does."""
        deadline = Deadline(timeout)
        for path in _HEALTH_PATHS:
            try:
                await self._http.request("GET", self._http.url(path, root=True), deadline)
            except BackendRefusedError:
                continue  # this kind of endpoint has another path
            except BackendError:
                return False
            return True
        try:
            await self._http.request("GET", self._http.url("/models"), deadline)
        except BackendError:
            return False
        return True

    async def _embedded(
        self, texts: list[str], purpose: Purpose, deadline: Deadline, call: Call
    ) -> list[list[float]]:
        url = self._http.url("/embeddings")
        body: dict[str, Any] = {"model": self._model, "input": texts, "encoding_format": "float"}
        with_purpose = {**body, "input_type": purpose} if self._takes_purpose else body
        try:
            answer = await self._http.request("POST", url, deadline, json=with_purpose, call=call)
        except BackendRefusedError as error:
            if not self._takes_purpose or error.status not in {400, 422}:
                raise
            call.sent_again()
            answer = await self._http.request("POST", url, deadline, json=body, call=call)
            self._takes_purpose = False
        response = self._http.parsed(EmbeddingResponse, answer.content)
        call.answered_by(response.model or "")
        _tell_usage(call, response.usage)
        data = sorted(response.data, key=lambda item: item.index)
        if [item.index for item in data] != list(range(len(texts))):
            raise self._http.error(
                MalformedResponseError, f"{len(data)} embeddings for {len(texts)} texts, or not one for each"
            )
        if not all(math.isfinite(value) for item in data for value in item.embedding):
            raise self._http.error(MalformedResponseError, "an embedding holds what is no finite number")
        return [item.embedding for item in data]

    def _checked(self, completion: Completion, request: ChatRequest) -> Completion:
        if request.schema is None or completion.tool_calls:
            return completion
        try:
            parsed = parsed_as(request.schema, completion.text)
        except ShapeError as error:
            cut = "; it was cut at max_tokens, raise them" if completion.finish_reason == "length" else ""
            raise self._http.error(
                SchemaViolationError, f"the answer breaks the schema {request.shape_name}: {error}{cut}"
            ) from None
        return completion.model_copy(update={"parsed": parsed})

    async def _pieces(self, messages: Sequence[Message], request: ChatRequest) -> AsyncGenerator[Piece]:
        deadline = Deadline(request.timeout)
        body = request.body(self._model, messages, stream=True)
        url = self._http.url("/chat/completions")
        with Call(self._chat) as call:
            _tell_request(call, request, messages, stream=True)
            opened = self._http.open(
                "POST", url, deadline, json=body, repeatable=not _is_counted(), call=call
            )
            async with opened as response:
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    raise self._http.error(MalformedResponseError, "the answer is no stream of events")
                assembly = _Assembly(self._http, call)
                chunks = bounded(response.aiter_bytes(), self._http, deadline)
                events = self._events(chunks)
                async for event in events:
                    if event.strip() == b"[DONE]":
                        await _to_the_end(events)
                        break
                    piece = assembly.add(event)
                    if piece is not None:
                        yield piece
                last = assembly.last()
            _tell_usage(call, assembly.usage)
            _settle(request, assembly.usage)
            _tell_answer(call, last, "".join(assembly.text))
        yield last

    async def _events(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for event in sse.data(chunks):
                yield event
        except sse.EventTooLargeError as error:
            raise self._http.error(MalformedResponseError, str(error)) from None


def _is_counted() -> bool:
    """Whether what models generate for the running step is bounded: then no request is sent twice unseen."""
    step = current_step()
    return step is not None and step.tokens is not None


def _allowed(request: ChatRequest) -> ChatRequest:
    """The request with what the running step may still let a model generate.

    Raises:
        BudgetExceededError: That is nothing.
    """
    step = current_step()
    if step is None or step.tokens is None:
        return request
    return replace(request, max_tokens=step.tokens.take(step.step, request.max_tokens))


def _settle(request: ChatRequest, usage: TokenUsage | None) -> None:
    step = current_step()
    if step is None or step.tokens is None or usage is None or usage.completion_tokens is None:
        return
    step.tokens.settle(request.max_tokens or 0, usage.completion_tokens)


async def _to_the_end(events: AsyncIterator[bytes]) -> None:
    """Reads what follows the last event, nothing as a rule: a connection that is read to its end is kept."""
    with suppress(BackendError, TimeoutError):
        async with asyncio.timeout(END_WITHIN.total_seconds()):
            async for _ in events:
                pass


@dataclass
class _Assembly:
    """Reads the events of one stream and remembers what its last piece needs."""

    http: HttpEndpoint
    call: Call
    calls: CallAssembly = field(default_factory=CallAssembly)
    text: list[str] = field(default_factory=list[str])
    """Kept only where a span may carry it."""

    finish_reason: str | None = None
    usage: TokenUsage | None = None
    model: str = ""
    id: str = ""

    def __post_init__(self) -> None:
        self._keeps_text = self.call.recorded and contents_captured()

    def add(self, event: bytes) -> Piece | None:
        chunk = self.http.parsed(ChatChunk, event)
        if chunk.error is not None:
            raise self._failure(chunk.error.code, chunk.error.type)
        self.model = chunk.model or self.model
        self.id = chunk.id or self.id
        if chunk.usage is not None:
            self.usage = chunk.usage
        if not chunk.choices:
            return None
        choice = chunk.choices[0]
        self.finish_reason = choice.finish_reason or self.finish_reason
        self.calls.add(choice.delta.tool_calls or ())
        text = choice.delta.content
        if text or choice.delta.tool_calls:
            self.call.first_piece()
        if text and self._keeps_text:
            self.text.append(text)
        return Piece(text=text, model=self.model, id=self.id) if text else None

    def last(self) -> Piece:
        if self.finish_reason is None:
            raise self.http.error(StreamInterruptedError, "the stream ended before the answer did")
        try:
            calls = self.calls.calls()
        except ArgumentsError as error:
            raise self.http.error(SchemaViolationError, str(error)) from None
        return Piece(
            tool_calls=calls,
            finish_reason=self.finish_reason,
            usage=self.usage.value() if self.usage else None,
            model=self.model,
            id=self.id,
        )

    def _failure(self, code: int | str | None, kind: str | None) -> BackendError:
        words = ", ".join(str(word) for word in (kind, code) if word and len(str(word)) <= 80)
        status = int(code) if code is not None and str(code).isdigit() else None
        if status is not None and 400 <= status < 600:
            return self.http.failure(status, why=words)
        return self.http.error(
            BackendFaultError, f"the endpoint failed while it answered ({words or 'no reason'})"
        )


def _tell_request(call: Call, request: ChatRequest, messages: Sequence[Message], *, stream: bool) -> None:
    if not call.recorded:
        return
    call.describe(
        {
            names.REQUEST_MAX_TOKENS: request.max_tokens,
            names.REQUEST_TEMPERATURE: request.temperature,
            names.REQUEST_SEED: request.seed,
            names.REQUEST_STREAM: stream or None,
            names.INPUT_MESSAGES: contents.asked(messages) if contents_captured() else None,
        }
    )


def _tell_usage(call: Call, usage: TokenUsage | None) -> None:
    if usage is None:
        return
    call.used(usage.prompt_tokens, usage.completion_tokens)
    call.describe({names.USAGE_CACHE_READ_INPUT_TOKENS: usage.cached_tokens})


def _tell_answer(call: Call, answer: Completion | Piece, text: str) -> None:
    call.answered_by(answer.model)
    if not call.recorded:
        return
    said = contents.answered(text, answer.tool_calls, answer.finish_reason) if contents_captured() else None
    call.describe(
        {
            names.RESPONSE_ID: answer.id or None,
            names.RESPONSE_FINISH_REASONS: [answer.finish_reason] if answer.finish_reason else None,
            names.OUTPUT_MESSAGES: said,
        }
    )
