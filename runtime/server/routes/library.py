"""`/v1/library`: programs that are stored under a name, compiled and planned once."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from ramet.runtime.engine import AnyProgram
from ramet.runtime.server.context import TheServer, TheTenant
from ramet.runtime.server.document import told
from ramet.runtime.server.routes.programs import (
    RUN,
    IdempotencyKey,
    ProgramBody,
    RunBody,
    plan_of,
    run,
)
from ramet.runtime.server.shapes import StoredDeleted, StoredList, StoredWhole
from ramet.runtime.server.wire import Json

router = APIRouter(prefix="/v1/library", tags=["library"])

Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


@router.get("", responses=told(StoredList))
async def list_library(server: TheServer, tenant: TheTenant) -> Response:
    """What is stored."""
    stored = [each.view(whole=False) for each in server.library.all(tenant)]
    return Json({"object": "list", "data": stored})


@router.put("/{name}", responses=told({200: StoredWhole, 201: StoredWhole}, 503))
async def store(
    name: Name, body: ProgramBody, request: Request, server: TheServer, tenant: TheTenant
) -> Response:
    """Check a program, plan it, and store it, on disk before it is told; what had the name is
    replaced."""
    program, plan = await server.checks.do(tenant, partial(plan_of, server, body.sent, {}))
    stored, new = await server.library.put(tenant, name, program, plan, await request.body())
    return Json(stored.view(), 201 if new else 200)


@router.get("/{name}", responses=told(StoredWhole))
async def get_stored(name: Name, server: TheServer, tenant: TheTenant) -> Response:
    """What it takes, and its plan."""
    return Json(server.library.get(tenant, name).view())


@router.delete("/{name}", responses=told(StoredDeleted, 503))
async def delete_stored(name: Name, server: TheServer, tenant: TheTenant) -> Response:
    """Forget it; its runs go on."""
    await server.library.delete(tenant, name)
    return Json({"name": name, "deleted": True})


@router.post("/{name}/runs", responses=RUN)
async def run_stored(
    name: Name,
    body: RunBody,
    request: Request,
    server: TheServer,
    tenant: TheTenant,
    key: IdempotencyKey = None,
) -> Response:
    """Run it; as `POST /v1/programs`."""

    async def program() -> tuple[AnyProgram, int]:
        stored = server.library.get(tenant, name)
        return stored.program, stored.size

    return await run(request, server, tenant, program, body, key)
