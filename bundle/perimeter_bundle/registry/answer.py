"""An HTTP answer as it is read: bounded, watched for stalls, shown without secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

import urllib3
from urllib3 import exceptions as http_errors

from perimeter_bundle.model.errors import NetworkError
from perimeter_bundle.registry.retry import Clock, Failure, FailureKind
from perimeter_bundle.registry.stop import Stop

CHUNK_BYTES: Final = 1024 * 1024
SLOWEST_BYTES_PER_S: Final = 1024  # below this for a whole read timeout counts as a stall
_ERROR_CODE = re.compile(r"[A-Z_]{1,60}")


class Answer:
    """An HTTP answer whose body has not been read; use it in a ``with`` block."""

    def __init__(
        self,
        response: urllib3.BaseHTTPResponse,
        url: str,
        *,
        stop: Stop,
        clock: Clock,
        read_timeout_s: float,
    ) -> None:
        self._response = response
        self._stop = stop
        self._clock = clock
        self._read_timeout_s = read_timeout_s
        self.status: int = response.status
        self.url = url  # after redirects; may hold a signature: show it with shown_url only
        self.headers: Mapping[str, str] = response.headers

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

    def chunks(self) -> Iterator[bytes]:
        """The body as it comes, at most CHUNK_BYTES at once, never decoded.

        Raises Failure when it stalls or ends early, StoppedError when work should end.
        """
        window_start_s, window_bytes, left = self._clock.monotonic(), 0, self.length_bytes
        wake = getattr(self._response, "shutdown", self._response.close)
        with self._stop.waking(wake):
            while True:
                data = self._read_some()
                # data read after a shutdown may be rubbish: it must never be given out
                self._stop.check()
                if not data:
                    return
                yield data
                left = None if left is None else left - len(data)
                if left == 0:
                    continue  # complete, however long it took
                window_bytes += len(data)
                passed_s = self._clock.monotonic() - window_start_s
                if passed_s >= self._read_timeout_s:
                    if window_bytes < SLOWEST_BYTES_PER_S * passed_s:
                        raise Failure(
                            FailureKind.TIMEOUT, f"only {window_bytes} bytes in {passed_s:.0f} s"
                        )
                    window_start_s, window_bytes = self._clock.monotonic(), 0

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

    def _read_some(self) -> bytes:
        try:
            return self._response.read1(CHUNK_BYTES, decode_content=False) or b""
        except http_errors.ReadTimeoutError as error:
            self._stop.check()
            raise Failure(
                FailureKind.TIMEOUT, f"nothing came for {self._read_timeout_s:g} s"
            ) from error
        except (http_errors.HTTPError, OSError) as error:
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
        # a connection is worth keeping only when nothing or little is left on it
        left = getattr(self._response, "length_remaining", None)
        if kind is None and left is not None and left <= CHUNK_BYTES // 16:
            with suppress(http_errors.HTTPError, OSError):
                self._response.drain_conn()
                self._response.release_conn()
                return
        self._response.close()


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
        return f"{type(error).__name__}: {error.strerror}"
    if isinstance(error, http_errors.IncompleteRead):
        return f"the connection ended {error.expected or 'some'} bytes early"
    return type(error).__name__
