"""`/v1/programs`: a client sends a program, and it runs here, next to the cache."""

import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from math import inf
from typing import Annotated, Any, Self

from fastapi import APIRouter, Header, Request
from pydantic import Field, model_validator
from starlette.responses import Response

from ramet.runtime.engine import AnyProgram
from ramet.runtime.server.auth import Tenant
from ramet.runtime.server.context import Server, TheServer, TheTenant
from ramet.runtime.server.document import told
from ramet.runtime.server.errors import Refused, respond
from ramet.runtime.server.guard import hold, hold_nesting
from ramet.runtime.server.jobs import Job, Order
from ramet.runtime.server.openai.requests import FIRST, MAX_ITEMS, Wire, few
from ramet.runtime.server.program_shapes import EVENTS, AnyAnswer, OverAnswer, RanAnswer
from ramet.runtime.server.shapes import Checked, Planned
from ramet.runtime.server.sources import Sent, check, load, lowered, planned
from ramet.runtime.server.sse import EventStream, while_connected
from ramet.runtime.server.wire import Json
from ramet.runtime.tokenizer import Piece

router = APIRouter(prefix="/v1/programs", tags=["programs"])

IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key")]
SentKey = Annotated[str, Header(alias="Idempotency-Key")]
LastEventId = Annotated[int | None, Header(alias="Last-Event-ID", ge=0)]
Arguments = dict[str, Any]
MAX_LIMITS = 16

RUN = told({200: RanAnswer, 202: AnyAnswer}, 409, 422, 429, 503, events=EVENTS)
"""What a run is answered with, whichever way its program came."""


class ProgramBody(Wire):
    """A program: text of the DSL, or a request graph."""

    source: str | None = Field(None, description="Programs as text.")
    graph: dict[str, Any] | None = Field(None, description="A request graph.")
    program: str | None = Field(None, description="Which program of the source; else its last.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.source is None) == (self.graph is None):
            raise ValueError("give source or graph, one of the two")
        if self.graph is not None and self.program is not None:
            raise ValueError("program names one of a source; a graph is one")
        return self

    @property
    def sent(self) -> Sent:
        return Sent(self.source, self.graph, self.program)


class PlanBody(ProgramBody):
    arguments: Arguments = Field({}, description="By name; any may be left out.")


class RunBody(Wire):
    """How to run a program."""

    arguments: Arguments | None = Field(None, description="By name.")
    batch: Annotated[list[Arguments], FIRST, few(MAX_ITEMS)] | None = Field(
        None, description="One run for each, sharing."
    )
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None = Field(
        None, description="From which every draw follows by its place; item i of a batch adds i."
    )
    limits: Annotated[dict[str, int | float], few(MAX_LIMITS)] = Field(
        {}, description="Lower than those of the server."
    )
    stream: bool = Field(False, description="Server-sent events instead of one answer.")
    background: bool = Field(
        False, description="Go on when nobody follows; without stream, answer at once."
    )
    linger: Annotated[float, Field(ge=0, le=60)] | None = Field(
        None, description="Seconds to go on when nobody follows; else none, or with a key all."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.arguments is not None and self.batch is not None:
            raise ValueError("give arguments or batch, not both")
        return self


class RunProgramBody(RunBody, ProgramBody):
    """A program, and how to run it."""


@router.post("", responses=RUN)
async def run_program(
    body: RunProgramBody,
    request: Request,
    server: TheServer,
    tenant: TheTenant,
    key: IdempotencyKey = None,
) -> Response:
    """Run a program, and answer with its result.

    With `stream` the answer is server-sent events. With `background` it comes at once, the run goes
    on, and can be asked for by its id. What is sent again with its `Idempotency-Key` runs once.
    """

    async def program() -> tuple[AnyProgram, int]:
        with server.runs.turns.reserved(tenant):
            work = partial(load, body.sent, server.config.program)
            return await server.starts.do(tenant, work), 0

    return await run(request, server, tenant, program, body, key)


@router.post("/check", responses=told(Checked, 503))
async def check_program(body: ProgramBody, server: TheServer, tenant: TheTenant) -> Response:
    """All mistakes of a program, each with its place; or what it takes."""
    return Json(await server.checks.do(tenant, partial(check, body.sent, server.config.program)))


@router.post("/plan", responses=told(Planned, 503))
async def plan_program(body: PlanBody, server: TheServer, tenant: TheTenant) -> Response:
    """What a run can take: tokens, branches, blocks; and what is known ahead."""
    hold_nesting("arguments", body.arguments, server.config.program.nesting)
    _, plan = await server.checks.do(tenant, partial(plan_of, server, body.sent, body.arguments))
    return Json(plan)


@router.delete("", responses=told(OverAnswer, 400, 404))
async def delete_sent(server: TheServer, tenant: TheTenant, key: SentKey) -> Response:
    """Cancel what was sent with this key, if it runs, and forget it."""
    return await _delete(server, server.idempotency.known(tenant, key))


@router.get("/{id}", responses=told(AnyAnswer))
async def get_program(id: str, server: TheServer, tenant: TheTenant) -> Response:
    """How it stands, and its result once it is there."""
    return _json(server.jobs.get(tenant, id))


@router.delete("/{id}", responses=told(OverAnswer))
async def delete_program(id: str, server: TheServer, tenant: TheTenant) -> Response:
    """Cancel it, if it runs, and forget it."""
    return await _delete(server, server.jobs.get(tenant, id))


@router.get("/{id}/events", responses=told({}, 410, events=EVENTS))
async def program_events(
    id: str, server: TheServer, tenant: TheTenant, last: LastEventId = None
) -> Response:
    """Its events, from the first one that is kept, or those after the last one that was seen."""
    job = server.jobs.get(tenant, id)
    after = job.log.dropped if last is None else last
    job.log.check(after)
    return _stream(server, job, after)


# -- for the library too


async def run(
    request: Request,
    server: Server,
    tenant: Tenant,
    program: Callable[[], Awaitable[tuple[AnyProgram, int]]],
    body: RunBody,
    key: str | None,
) -> Response:
    """Start it, unless its key came before, and answer as the body asks.

    Args:
        program: what to run, and bytes of it that the request does not have.
    """
    hold_nesting("arguments", body.arguments, server.config.program.nesting)
    if body.batch is not None:
        hold("batch", len(body.batch), server.config.prompts, "argument sets")
        for at, arguments in enumerate(body.batch):
            hold_nesting(f"batch.{at}", arguments, server.config.program.nesting)
        if not body.batch:
            raise Refused(400, "batch: it is empty", code="invalid_value", param="batch")
    limits = lowered(server.config.program, body.limits)
    request_key = None
    if key is not None:
        fields = body.model_dump(exclude={"stream", "background", "linger"})
        said = f"{request.scope['path']} {json.dumps(fields, sort_keys=True)}"
        request_key = server.idempotency.key(tenant, key, said)
    job = None if request_key is None else server.idempotency.find(request_key)
    if job is None:
        loaded, stored = await program()
        order = Order(
            program=loaded,
            items=[body.arguments or {}] if body.batch is None else body.batch,
            batch=body.batch is not None,
            seed=body.seed,
            limits=limits,
            size=stored + len(await request.body()),
        )
        start = partial(server.jobs.start, tenant, order)
        job = start() if request_key is None else server.idempotency.job(request_key, start)
    job.linger = max(job.linger, _linger(body, key))
    if body.stream:
        return _stream(server, job, job.log.dropped)
    if body.background:
        return _json(job, 202, {"Location": f"/v1/programs/{job.id}"})
    job.join()
    try:
        await while_connected(request, job.over())
    finally:
        await job.leave()
    if (error := job.error) is not None:
        return respond(error)
    return _json(job)


def plan_of(
    server: Server, sent: Sent, arguments: Mapping[str, Any]
) -> tuple[AnyProgram, dict[str, Any]]:
    """A program with its plan, with tokens as the model counts them. Takes time."""
    program = load(sent, server.config.program)
    tokenizer = server.engine.engine.tokenizer

    def count(text: str) -> int:
        return len(tokenizer.encode([Piece(text)], start=False))

    return program, planned(program, arguments, server.config.program, count)


def _linger(body: RunBody, key: str | None) -> float:
    """Seconds that a run goes on when nobody follows it."""
    if body.background or (body.linger is None and key is not None):
        return inf
    return body.linger or 0.0


async def _delete(server: Server, job: Job) -> Response:
    await job.cancel()
    server.jobs.forget(job)
    return _json(job)


def _json(job: Job, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(job.view(), status, headers, "application/json")


def _stream(server: Server, job: Job, after: int) -> EventStream:
    job.join()
    return EventStream(
        job.follow(after),
        stall_s=server.config.stall_s,
        headers={"X-Program-Id": job.id},
        on_close=job.leave,
    )
