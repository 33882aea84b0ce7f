"""`/`: a page that runs programs and shows how they fill in, and what is cached."""

from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import Response

from ramet.runtime.server.errors import Refused

router = APIRouter(include_in_schema=False)

_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_FILES = {
    file.name: file.read_bytes()
    for file in (files("ramet.runtime.server") / "page").iterdir()
    if file.name.rpartition(".")[2] in _KINDS
}


@router.get("/")
async def page() -> Response:
    """The page."""
    return _file("index.html")


@router.get("/page/{name}")
async def part(name: str) -> Response:
    """A part of it."""
    if name not in _FILES:
        raise Refused(404, "there is no such file", code="not_found")
    return _file(name)


def _file(name: str) -> Response:
    kind = _KINDS[name.rpartition(".")[2]]
    return Response(_FILES[name], media_type=f"{kind}; charset=utf-8", headers=_HEADERS)
