"""An HTTP answer as it is read: bounded, watched for stalls, shown without secrets."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

from perimeter_bundle.model.errors import NetworkError
from perimeter_bundle.registry.connections import Reply
from perimeter_bundle.registry.retry import Clock, Failure, FailureKind
from perimeter_bundle.registry.stop import Stop

CHUNK_BYTES: Final = 1024 * 1024
SLOWEST_BYTES_PER_S: Final = 1024  # below this for a whole read timeout counts as a stall
_ERROR_CODE = re.compile(r"[A-Z_]{1,60}")


class Answer:
    """An HTTP answer whose body has not been read; use it in a ``with`` block."""

    def __init__(
        self,
        reply: Reply,
        url: str,
        *,
        stop: Stop,
        clock: Clock,
        read_timeout_s: float,
    ) -> None:
        self._reply = reply
        self._stop = stop
        self._clock = clock
        self._read_timeout_s = read_timeout_s
        self.status: int = reply.status
        self.url = url  # after redirects; may hold a signature: show it with shown_url only
        self.headers: Mapping[str, str] = reply.headers

    @property
    def length_bytes(self) -> int | None:
        """What Content-Length promises, None without a usable one."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return None  # RFC 9112, section 6.3: the length does not count then
        text = self.headers.get("Content-Length", "").strip()
        return int(text[:18]) if text.isascii() and text.isdigit() else None

    @property
    def content_type(self) -> str:
        """The media type alone, lower case, empty when there is none."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    def pieces(self, room: Callable[[], memoryview]) -> Iterator[int]:
        """Reads the body, never decoded, into what ``room`` gives; the size of each piece.

        ``room`` is asked before each piece and gives at least one byte. Raises Failure when the
        body stalls or ends early, StoppedError when work should end.
        """
        window_start_s, window_bytes, left = self._clock.monotonic(), 0, self.length_bytes
        with self._stop.waking(self._reply.interrupt):
            while True:
                size = self._read_into(room())
                # data read after a shutdown may be rubbish: it must never be given out
                self._stop.check()
                if not size:
                    return
                yield size
                left = None if left is None else left - size
                if left == 0:
                    continue  # complete, however long it took
                window_bytes += size
                passed_s = self._clock.monotonic() - window_start_s
                if passed_s >= self._read_timeout_s:
                    if window_bytes < SLOWEST_BYTES_PER_S * passed_s:
                        raise Failure(
                            FailureKind.TIMEOUT, f"only {window_bytes} bytes in {passed_s:.0f} s"
                        )
                    window_start_s, window_bytes = self._clock.monotonic(), 0

    def chunks(self) -> Iterator[bytes]:
        """The body as it comes, at most CHUNK_BYTES at once; otherwise as ``pieces``."""
        promised = self.length_bytes
        view = memoryview(bytearray(min(CHUNK_BYTES, promised or CHUNK_BYTES)))
        for size in self.pieces(lambda: view):
            yield bytes(view[:size])

    def read_all(self, limit_bytes: int, attempted: str) -> bytes:
        """The whole body; raises NetworkError[too-large] past the limit."""
        body = bytearray()
        for chunk in self.chunks():
            body += chunk
            if len(body) > limit_bytes:
                raise NetworkError(
                    "too-large",
                    f"{attempted}: the answer is larger than it may be",
                    context={"at most": f"{limit_bytes} bytes", "from": shown_url(self.url)},
                    hint="something between here and the server may have replaced the answer",
                )
        return bytes(body)

    def _read_into(self, view: memoryview) -> int:
        try:
            return self._reply.read_into(view)
        except TimeoutError as error:
            self._stop.check()
            raise Failure(
                FailureKind.TIMEOUT, f"nothing came for {self._read_timeout_s:g} s"
            ) from error
        except (http.client.HTTPException, OSError) as error:
            self._stop.check()
            raise Failure(FailureKind.TRUNCATED, short_reason(error)) from error

    def __enter__(self) -> Answer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reply.end(well=kind is None)


def refusal(answer: Answer, attempted: str) -> NetworkError:
    """The final error for a status that will not pass by waiting."""
    code, hint = {
        401: ("unauthorized", "log in with docker login, or check the credentials stored there"),
        403: ("forbidden", "these credentials may not read it; check name and permissions"),
        404: ("not-found", "check the name and the version; it may have been removed upstream"),
    }.get(answer.status, ("bad-answer", "something else than the expected server answered"))
    context = {"found": f"{answer.status} from {shown_url(answer.url)}"}
    reason = _error_code(answer)
    if reason:
        context["reason"] = reason
    return NetworkError(code, f"{attempted} was refused", context=context, hint=hint)


def shown_url(url: str) -> str:
    """``url`` without what may be a secret: user, password, query, fragment."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:500]
    except ValueError:
        return "(not an address)"


def _error_code(answer: Answer) -> str:
    # Only the code: a server could echo anything, a token for example, into its message.
    # https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#error-codes
    try:
        document = json.loads(answer.read_all(64 * 1024, "error"))
        code = document["errors"][0]["code"]
    except (Failure, NetworkError, ValueError, LookupError, TypeError, RecursionError):
        return ""
    return code if isinstance(code, str) and _ERROR_CODE.fullmatch(code) else ""


def short_reason(error: BaseException) -> str:
    """The innermost reason, without object addresses and without the request's address."""
    while isinstance(error.__cause__ or error.__context__, OSError):
        error = error.__cause__ or error.__context__ or error
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, TimeoutError):
        return "nothing answered in time"
    if type(error) is OSError and error.args:  # what a proxy said to CONNECT
        return str(error)
    if isinstance(error, http.client.IncompleteRead):
        return f"the connection ended {error.expected or 'some'} bytes early"
    cause = error.__cause__ or error.__context__ or error
    if isinstance(cause, http.client.RemoteDisconnected):
        return "the connection was closed without an answer"
    if isinstance(cause, http.client.BadStatusLine | http.client.LineTooLong):
        return "what came is no answer of a web server"
    return type(error).__name__
