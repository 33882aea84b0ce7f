"""The server: what HTTP adds to the engine, and whether it holds up.

    python bench/server.py [--only calls,streams,overload,timing] [--json bench/results] [--quick]
    python bench/server.py --soak MINUTES [--clients 256]

* calls: twelve generations as calls through the OpenAI route, and as one program, with 20 ms of
  round trip added and without.
* streams: tokens a second of 64 programs that stream through server-sent events, beside the engine
  alone.
* overload: four times the load that the server can take: how fast it refuses, and what it gets
  done.
* timing: whether the time to a first token tells that another tenant sent the same prompt.
* soak: 256 clients for so many minutes, some of whom leave or make mistakes.

Each server is a process of its own on loopback, with default settings but for keys; clients are in
this one. What is compared is measured in turns in one call. Each writes `server-NAME.json`; the
modules of `bench/serving/` say how each is measured. `--quick` runs each for seconds on a tiny
random model, to see that it works, and writes nothing.
"""

import argparse
import asyncio
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from machine import write
from rich.console import Console
from serving.calls import calls
from serving.overload import overload
from serving.soak import CLIENTS, soak
from serving.streams import streams
from serving.timing import timing

from ramet.runtime.threads import wait_shortly

Rows = Iterable[dict[str, object]]

SECTIONS: dict[str, Callable[[bool], Coroutine[Any, Any, Rows]]] = {
    "calls": calls,
    "streams": streams,
    "overload": overload,
    "timing": timing,
}


PACKAGES = ("fastapi", "uvicorn", "h11", "openai", "httpx2")


def measured(name: str, quick: bool) -> Rows:
    return asyncio.run(SECTIONS[name](quick))


def soaked(minutes: float, clients: int, tell: Callable[[str], None]) -> Rows:
    return [asyncio.run(soak(minutes, clients, tell))]


def main() -> None:
    parser = argparse.ArgumentParser(description="the server beside its engine, and under load")
    parser.add_argument("--json", type=Path, default=Path("bench/results"), help="a folder")
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--soak", type=float, metavar="MINUTES")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--quick", action="store_true", help="a tiny model, no file")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := set(names) - set(SECTIONS):
        parser.error(f"no {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")

    wait_shortly()  # in the servers that it starts, as in `ramet serve`
    console = Console(soft_wrap=True, highlight=False)
    work: dict[str, Callable[[], Rows]]
    if options.soak is None:
        work = {name: partial(measured, name, options.quick) for name in names}
    else:
        work = {"soak": partial(soaked, options.soak, options.clients, console.print)}
    for name, run in work.items():
        rows = [*run()]
        for row in rows:
            shown = {key: value for key, value in row.items() if key not in ("all", "memory")}
            console.print(f"{name}: {shown}")
        if not options.quick:
            file = options.json / f"server-{name}.json"
            write(file, f"server-{name}", rows, versions={each: version(each) for each in PACKAGES})


if __name__ == "__main__":
    main()
