"""JSON over HTTP for the backends that talk to servers: requests, event streams, their errors."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2

from ramet.compat.sglang.errors import BackendError

_SHOWN = 500  # characters of a server's answer that an error shows


class Server:
    """One server. Any number of threads may talk to it at once."""

    def __init__(self, base_url: str, api_key: str | None = None, verify: Any = None) -> None:
        self.base_url = base_url.rstrip("/")
        self._client = httpx2.Client(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx2.Timeout(None, connect=30.0),
            limits=httpx2.Limits(max_connections=None),
            verify=True if verify is None else verify,
        )

    def get(self, path: str) -> Any:
        """The answer as JSON, or as text where it is none. Raises `BackendError`."""
        return self._answer("GET", path, None)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return self._answer("POST", path, body)

    def stream(self, path: str, body: Mapping[str, Any]) -> Iterator[Any]:
        """The events of an answer, each as JSON, up to `[DONE]`."""
        try:
            with self._client.stream("POST", self.base_url + path, json=body) as response:
                if response.is_error:
                    response.read()
                    raise _refused(response)
                for line in response.iter_lines():
                    if not line.startswith("data:"):
                        continue
                    data = line.removeprefix("data:").strip()
                    if data == "[DONE]":
                        return
                    yield _event(data, path)
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from error

    def close(self) -> None:
        self._client.close()

    def _answer(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        try:
            response = self._client.request(method, self.base_url + path, json=body)
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from error
        if response.is_error:
            raise _refused(response)
        try:
            return response.json()
        except ValueError:
            return response.text

    def _unreachable(self, error: Exception) -> BackendError:
        return BackendError(f"{self.base_url} does not answer: {type(error).__name__}: {error}")


def _event(data: str, path: str) -> Any:
    try:
        event = json.loads(data)
    except ValueError as error:
        raise BackendError(f"{path} sent an event that is no JSON: {data[:_SHOWN]}") from error
    if isinstance(event, dict) and "error" in event:
        raise BackendError(f"{path}: {event['error']}")
    return event


def _refused(response: httpx2.Response) -> BackendError:
    return BackendError(
        f"{response.request.method} {response.request.url} answered {response.status_code}: "
        f"{response.text[:_SHOWN]}"
    )
