"""A server on loopback with SGLang's routes and OpenAI's, over a table of answers."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[dict[str, Any]], Any]  # JSON, or an iterator of events


class Fake:
    """Routes to replies, and the requests that came."""

    def __init__(self, routes: dict[str, Reply]) -> None:
        self.routes = routes
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""

    def bodies(self, path: str) -> list[dict[str, Any]]:
        return [body for found, body in self.requests if found == path]


@contextmanager
def serving(routes: dict[str, Reply]) -> Iterator[Fake]:
    fake = Fake(routes)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None: ...

        def do_GET(self) -> None:
            self.answer({})

        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            self.answer(json.loads(self.rfile.read(size) or b"{}"))

        def answer(self, body: dict[str, Any]) -> None:
            fake.requests.append((self.path, body))
            fake.headers.append(dict(self.headers))
            if self.path not in fake.routes:
                self.send(404, json.dumps({"error": "no such route"}).encode())
                return
            reply = fake.routes[self.path](body)
            if isinstance(reply, Iterator):
                lines = [f"data: {json.dumps(each)}\n\n" for each in reply]
                self.send(200, "".join([*lines, "data: [DONE]\n\n"]).encode(), "text/event-stream")
            else:
                self.send(200, json.dumps(reply).encode())

        def send(self, code: int, data: bytes, kind: str = "application/json") -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
