"""Answers of a registry that nobody has to run: real ones, parsed from bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any, Protocol


class Ask(Protocol):
    """Gives the answer to one request, or raises what a broken line raises."""

    def __call__(self, method: str, target: str, **options: Any) -> HTTPResponse: ...


def http_answer(
    status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, *, method: str = "GET"
) -> HTTPResponse:
    """What a client that asked with ``method`` sees when these bytes come over the wire."""
    names = {"Content-Length": str(len(body)), **(headers or {})}
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in names.items())]
    wire = _Wire("\r\n".join([*lines, "", ""]).encode() + body)
    response = HTTPResponse(wire, method=method)  # type: ignore[arg-type]
    response.begin()
    return response


def exchange_by(ask: Ask) -> Any:
    """In place of ``Connections.exchange``."""

    @contextmanager
    def exchange(
        method: str, target: str, headers: Mapping[str, str], **options: Any
    ) -> Iterator[HTTPResponse]:
        yield ask(method, target, headers=headers, **options)

    return exchange


class _Wire:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)
