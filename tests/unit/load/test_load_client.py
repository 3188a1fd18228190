"""The push client against answers that no honest registry gives."""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPException, HTTPResponse, RemoteDisconnected
from pathlib import Path
from typing import cast

import pytest
from tests.support.answers import exchange_by, http_answer

from perimeter_bundle.format.extent import Extent
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError, InputError, NetworkError, TrustError
from perimeter_installer.load import retry
from perimeter_installer.load.body import BlobBody, Cancelled
from perimeter_installer.load.endpoint import RegistryEndpoint
from perimeter_installer.load.registry import PushClient

Answer = HTTPResponse | Exception
BLOB = b"the bytes of a blob"
DIGEST = Digest.of_bytes(BLOB)


def answer(status: int, body: bytes = b"", **headers: str) -> HTTPResponse:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return http_answer(status, body, names)


class ScriptedClient(PushClient):
    """Gives prepared answers instead of asking the network."""

    def __init__(self, answers: list[Answer], url: str = "https://n1:5000") -> None:
        self.waits: list[float] = []
        super().__init__(RegistryEndpoint.parse("n1", url), sleep=self.waits.append)
        self.answers = iter(answers)
        self.asked: list[tuple[str, str]] = []
        self.ranges: list[str] = []
        self._wire.connections.exchange = exchange_by(self._answer)  # type: ignore[method-assign]

    def _answer(self, method: str, target: str, **options: object) -> HTTPResponse:
        self.asked.append((method, target))
        headers = cast("dict[str, str]", options.get("headers", {}))
        self.ranges.append(headers.get("Content-Range", ""))
        body = options.get("body")
        if isinstance(body, BlobBody):
            for _ in body:
                pass
        given = next(self.answers)
        if isinstance(given, Exception):
            raise given
        return given


@pytest.fixture
def blob(tmp_path: Path) -> tuple[Extent, ...]:
    path = tmp_path / "blob"
    path.write_bytes(BLOB)
    return (Extent(path, 0, len(BLOB)),)


def ignore(count: int) -> None:
    pass


def broken() -> HTTPException:
    return RemoteDisconnected("Remote end closed connection without response")


def timed_out() -> OSError:
    return TimeoutError("timed out")


@pytest.mark.parametrize("status", sorted(retry.BY_STATUS))
def test_tries_again_as_often_as_the_table_says(status: int) -> None:
    rule = retry.BY_STATUS[status]
    client = ScriptedClient([answer(status, b"busy")] * rule.tries)
    with pytest.raises(NetworkError, match=f"n1 answered {status} to: ask") as raised:
        client.ping()
    assert raised.value.context["tries"] == str(rule.tries)
    assert len(client.waits) == rule.tries - 1
    assert client.waits == [rule.wait_before(number) for number in range(2, rule.tries + 1)]


@pytest.mark.parametrize(
    ("error", "rule"), [(broken, retry.ON_CONNECTION), (timed_out, retry.ON_TIMEOUT)]
)
def test_a_connection_that_breaks_is_tried_again(
    error: Callable[[], Exception], rule: retry.RetryRule
) -> None:
    ScriptedClient([error(), answer(200)]).ping()
    with pytest.raises(NetworkError, match="n1 did not answer: could not ask") as raised:
        ScriptedClient([error() for _ in range(rule.tries)]).ping()
    assert raised.value.code == "registry-unreachable"


def test_a_try_that_failed_is_taken_back_from_the_progress(blob: tuple[Extent, ...]) -> None:
    sent: list[int] = []
    client = ScriptedClient(
        [
            answer(202, Location="/v2/x/blobs/uploads/1?_state=a"),
            broken(),
            answer(204, Location="/v2/x/blobs/uploads/1?_state=b"),  # what is left is looked up
            answer(204),  # and removed
            answer(404),  # and gone,
            answer(404),  # and stays so
            answer(202, Location="/v2/x/blobs/uploads/2"),
            answer(201),
        ]
    )
    client.push_blob("x", DIGEST, blob, len(BLOB), sent.append)
    assert sum(sent) == len(BLOB)
    assert min(sent) == -len(BLOB)
    methods = [method for method, _ in client.asked]
    assert methods == ["POST", "PUT", "GET", "DELETE", "GET", "GET", "POST", "PUT"]
    assert client.asked[3][1] == "/v2/x/blobs/uploads/1?_state=b"
    assert client.asked[7][1] == f"/v2/x/blobs/uploads/2?digest={str(DIGEST).replace(':', '%3A')}"


@pytest.mark.parametrize(
    "full",
    [
        answer(507),
        answer(500, b'{"errors":[{"detail":{"Op":"write","Err":28}}]}'),
        answer(500, b"write /data: no space left on device"),
    ],
)
def test_no_room_is_told_from_other_accidents(full: Answer, blob: tuple[Extent, ...]) -> None:
    client = ScriptedClient(
        [answer(202, Location="/v2/x/blobs/uploads/1"), full, answer(404), answer(404)]
    )
    with pytest.raises(HostError, match="no room on n1") as raised:
        client.push_blob("x", DIGEST, blob, len(BLOB), ignore)
    assert raised.value.code == "registry-full"
    assert not client.waits, "waiting makes no room"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_login_is_a_matter_of_trust(status: int) -> None:
    with pytest.raises(TrustError, match="n1 does not let us ask") as raised:
        ScriptedClient([answer(status, b"who are you")]).ping()
    assert raised.value.code == "registry-login"


def test_an_upload_is_not_followed_to_another_host(blob: tuple[Extent, ...]) -> None:
    client = ScriptedClient([answer(202, Location="https://evil.example/upload/1")])
    with pytest.raises(NetworkError, match="to another address") as raised:
        client.push_blob("x", DIGEST, blob, len(BLOB), ignore)
    assert raised.value.context["found"] == "https://evil.example"
    assert len(client.asked) == 1


def test_a_mount_that_is_refused_closes_the_upload_it_got_instead() -> None:
    client = ScriptedClient([answer(202, Location="/v2/x/blobs/uploads/1"), answer(204)])
    assert not client.mount_blob("x", DIGEST, "y")
    assert client.asked[1] == ("DELETE", "/v2/x/blobs/uploads/1")


def test_the_upload_that_a_refused_mount_opened_is_used(blob: tuple[Extent, ...]) -> None:
    client = ScriptedClient([answer(202, Location="/v2/x/blobs/uploads/1"), answer(201)])
    assert not client.push_blob("x", DIGEST, blob, len(BLOB), ignore, source="y")
    assert [method for method, _ in client.asked] == ["POST", "PUT"]
    assert "mount=" in client.asked[0][1] and client.asked[0][1].endswith("&from=y")


def test_a_mount_sends_no_bytes(blob: tuple[Extent, ...]) -> None:
    sent: list[int] = []
    client = ScriptedClient([answer(201)])
    assert client.push_blob("x", DIGEST, blob, len(BLOB), sent.append, source="y")
    assert sent == []


def test_a_mount_that_found_the_registry_busy_is_asked_for_again(blob: tuple[Extent, ...]) -> None:
    client = ScriptedClient([answer(503), answer(201)])
    assert client.push_blob("x", DIGEST, blob, len(BLOB), ignore, source="y")
    assert client.asked[0] == client.asked[1]


def test_after_an_upload_that_was_lost_the_bytes_are_sent(blob: tuple[Extent, ...]) -> None:
    opened = [answer(202, Location=f"/v2/x/blobs/uploads/{number}") for number in (1, 2)]
    client = ScriptedClient([opened[0], broken(), answer(404), opened[1], answer(201)])
    assert not client.push_blob("x", DIGEST, blob, len(BLOB), ignore, source="y")
    posts = [target for method, target in client.asked if method == "POST"]
    assert ["mount=" in target for target in posts] == [True, False]


def test_a_blob_of_another_size_is_seen() -> None:
    assert (
        ScriptedClient(
            [http_answer(200, headers={"Content-Length": "7"}, method="HEAD")]
        ).head_blob("x", DIGEST)
        == 7
    )
    assert ScriptedClient([answer(404)]).head_blob("x", DIGEST) is None


def test_the_project_of_an_external_registry_stands_before_every_name() -> None:
    client = ScriptedClient([answer(404)], "https://harbor.example/perimeter/")
    client.head_manifest("quay.io/minio/minio", "latest")
    assert client.asked == [("HEAD", "/v2/perimeter/quay.io/minio/minio/manifests/latest")]


@pytest.mark.parametrize(
    "url",
    ["http://n1:5000", "n1:5000", "https://", "https://n1/?a=b", "ftp://n1", "http://localhost.n1"],
)
def test_refuses_an_address_that_is_not_https(url: str) -> None:
    with pytest.raises(InputError, match="not a registry address") as raised:
        RegistryEndpoint.parse("n1", url)
    assert raised.value.code == "bad-registry-url"


def test_nothing_is_sent_after_cancel(blob: tuple[Extent, ...]) -> None:
    client = ScriptedClient([])
    client.cancel()
    with pytest.raises(Cancelled):
        client.push_blob("x", DIGEST, blob, len(BLOB), ignore)
    assert client.asked == []


def test_an_endpoint_shows_no_password() -> None:
    endpoint = RegistryEndpoint.parse("n1", "https://n1", username="robot", password="geheim")
    assert "geheim" not in repr(endpoint)
    assert "robot" not in repr(endpoint)


def test_a_small_blob_goes_in_one_request_where_the_registry_takes_that(
    blob: tuple[Extent, ...],
) -> None:
    client = ScriptedClient([answer(201), answer(201)])
    sent: list[int] = []
    for _ in range(2):
        client.push_blob("x", DIGEST, blob, len(BLOB), sent.append)
    assert [method for method, _ in client.asked] == ["POST", "POST"]
    assert client.asked[0][1].endswith("/v2/x/blobs/uploads/?digest=sha256%3A" + DIGEST.hex)
    assert sum(sent) == 2 * len(BLOB)


def test_a_registry_that_wants_two_requests_is_asked_for_one_only_once(
    blob: tuple[Extent, ...],
) -> None:
    opened = {"Location": "https://n1:5000/v2/x/blobs/uploads/1"}
    client = ScriptedClient([answer(202, **opened), answer(201)] * 2)
    sent: list[int] = []
    for _ in range(2):
        client.push_blob("x", DIGEST, blob, len(BLOB), sent.append)
    assert [method for method, _ in client.asked] == ["POST", "PUT", "POST", "PUT"]
    assert "digest=" in client.asked[0][1] and "digest=" not in client.asked[2][1]
    assert sum(sent) == 2 * len(BLOB)


def test_parts_are_never_smaller_than_the_registry_asks_for(tmp_path: Path) -> None:
    data = bytes(3 << 20)
    (tmp_path / "blob").write_bytes(data)
    where = {"Location": "/v2/x/blobs/uploads/1"}
    client = ScriptedClient(
        [
            answer(202, OCI_Chunk_Min_Length=str(2 << 20), **where),
            answer(413),
            answer(204, Range="0-0", **where),
            answer(202, Range=f"0-{(2 << 20) - 1}", **where),
            answer(202, Range=f"0-{(3 << 20) - 1}", **where),
            answer(201),
        ]
    )
    extents = (Extent(tmp_path / "blob", 0, len(data)),)
    client.push_blob("x", Digest.of_bytes(data), extents, len(data), ignore)
    assert [range_ for range_ in client.ranges if range_] == ["0-2097151", "2097152-3145727"]


@pytest.mark.parametrize(
    ("asked", "seconds"), [("7", 7.0), ("100000", 60.0), ("", 0.0), ("-1", 0.0), ("soon", 0.0)]
)
def test_waits_as_long_as_the_registry_asks_within_reason(asked: str, seconds: float) -> None:
    client = ScriptedClient([answer(429, Retry_After=asked), answer(200)])
    client.ping()
    assert client.waits == [max(seconds, retry.BY_STATUS[429].wait_before(2))]


def test_a_portal_that_answers_with_a_page_is_no_registry() -> None:
    client = ScriptedClient([answer(200, b"\n<!doctype html><title>Log in</title>")])
    with pytest.raises(NetworkError, match="answered with a web page to: ask for /v2/") as raised:
        client.ping()
    assert "login page" in (raised.value.hint or "")


def test_a_registry_that_calls_its_answer_a_page_is_one_all_the_same() -> None:
    ScriptedClient([answer(200, b"true", Content_Type="text/html; charset=utf-8")]).ping()
