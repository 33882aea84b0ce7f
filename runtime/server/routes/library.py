"""`/v1/library`: programs that are stored under a name, compiled and planned once."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from ramet.runtime.engine import AnyProgram
from ramet.runtime.server.context import TheServer, TheTenant
from ramet.runtime.server.routes.programs import (
    IdempotencyKey,
    ProgramBody,
    RunBody,
    plan_of,
    run,
)
from ramet.runtime.server.sources import described
from ramet.runtime.server.wire import Json

router = APIRouter(prefix="/v1/library", tags=["library"])

Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


@router.get("")
async def list_library(server: TheServer, tenant: TheTenant) -> Response:
    """What is stored."""
    stored = [each.view(whole=False) for each in server.library.all(tenant)]
    return Json({"object": "list", "data": stored})


@router.put("/{name}", responses={201: {}})
async def store(
    name: Name, body: ProgramBody, request: Request, server: TheServer, tenant: TheTenant
) -> Response:
    """Check a program, plan it, and store it; what had the name is replaced."""
    program, plan = await server.checks.do(partial(plan_of, server, body.sent, {}))
    parameters: list[dict[str, Any]] = described(program)["parameters"]
    size = len(await request.body())
    stored, new = server.library.put(tenant, name, program, parameters, plan, size)
    return Json(stored.view(), 201 if new else 200)


@router.get("/{name}")
async def get_stored(name: Name, server: TheServer, tenant: TheTenant) -> Response:
    """What it takes, and its plan."""
    return Json(server.library.get(tenant, name).view())


@router.delete("/{name}")
async def delete_stored(name: Name, server: TheServer, tenant: TheTenant) -> Response:
    """Forget it; its runs go on."""
    server.library.delete(tenant, name)
    return Json({"name": name, "deleted": True})


@router.post("/{name}/runs", responses={200: {"content": {"text/event-stream": {}}}, 202: {}})
async def run_stored(
    name: Name,
    body: RunBody,
    request: Request,
    server: TheServer,
    tenant: TheTenant,
    key: IdempotencyKey = None,
) -> Response:
    """Run it; as `POST /v1/programs`."""

    async def program() -> AnyProgram:
        return server.library.get(tenant, name).program

    return await run(request, server, tenant, program, body, key)
