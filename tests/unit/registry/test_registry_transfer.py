"""Transfers against a server that lies in every way a server can."""

from __future__ import annotations

import os
import random
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.lying_server import Lie, LyingServer
from tests.support.transfers import Recorder, loopback_settings

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import HostError, IntegrityError, NetworkError
from perimeter_bundle.model.events import EventKind
from perimeter_bundle.registry.part_file import (
    BUFFER_BYTES,
    DIRECT_FROM_BYTES,
    SMALL_BUFFER_BYTES,
    Wanted,
    open_part,
    part_path,
)
from perimeter_bundle.registry.stop import Stop, StoppedError
from perimeter_bundle.registry.transfer import Verified, download

BLOB = random.Random(7).randbytes(300_000)
DIGEST = Digest.of_bytes(BLOB)
CUTS = [0, 1, 65_535, 150_000, len(BLOB) - 1]


@pytest.fixture
def server() -> Iterator[LyingServer]:
    with LyingServer() as server:
        server.serve("/blob", BLOB)
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "blobs" / DIGEST.hex


def fetch(
    server: LyingServer,
    target: Path,
    recorder: Recorder | None = None,
    *,
    size_bytes: int | None = len(BLOB),
    digest: Digest = DIGEST,
    stop: Stop | None = None,
    verified: Verified | None = None,
    limit_bytes: int = 10**9,
    read_timeout_s: float = 0.3,
) -> int:
    recorder = recorder or Recorder()
    settings = loopback_settings(server, read_timeout_s=read_timeout_s)
    transport = recorder.transport(settings, stop)
    return download(
        lambda headers: transport.open(
            "GET", server.url + "/blob", headers, accept=frozenset({416})
        ),
        target,
        Wanted("the blob", digest, size_bytes, limit_bytes),
        retrier=recorder.retrier(transport),
        on_event=recorder.on_event,
        verified=verified,
    )


def leave_part(target: Path, data: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part_path(target, DIGEST).write_bytes(data)


def assert_arrived(target: Path) -> None:
    assert target.read_bytes() == BLOB
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def ranges(server: LyingServer) -> list[str]:
    return [seen.headers.get("Range", "") for seen in server.requests_to("/blob")]


def test_brings_the_bytes_and_says_so(server: LyingServer, target: Path) -> None:
    recorder = Recorder()
    assert fetch(server, target, recorder) == len(BLOB)
    assert_arrived(target)
    assert recorder.kinds() == [EventKind.START, EventKind.FINISH]
    assert (recorder.events[-1].done_bytes, recorder.events[-1].total_bytes) == (len(BLOB),) * 2


@pytest.mark.parametrize("framing", [Lie(chunked=True), Lie(no_length=True)])
def test_takes_bodies_without_a_length(server: LyingServer, target: Path, framing: Lie) -> None:
    server.lie("/blob", framing)
    assert fetch(server, target) == len(BLOB)
    assert_arrived(target)


@pytest.mark.parametrize("cut", CUTS)
def test_goes_on_where_the_connection_was_cut(server: LyingServer, target: Path, cut: int) -> None:
    server.lie("/blob", Lie(cut_after=cut))
    recorder = Recorder()
    fetch(server, target, recorder)
    assert_arrived(target)
    assert ranges(server) == ["", f"bytes={cut}-" if cut else ""]
    assert len(recorder.pauses) == 1


@pytest.mark.parametrize("cut", CUTS)
def test_goes_on_where_an_earlier_run_was_cut(server: LyingServer, target: Path, cut: int) -> None:
    leave_part(target, BLOB[:cut])
    fetch(server, target)
    assert_arrived(target)
    assert ranges(server) == [f"bytes={cut}-" if cut else ""]


def test_asks_for_nothing_when_the_part_file_is_complete(server: LyingServer, target: Path) -> None:
    leave_part(target, BLOB)
    assert fetch(server, target) == len(BLOB)
    assert_arrived(target)
    assert server.seen == []


def test_starts_over_when_the_part_file_is_damaged(server: LyingServer, target: Path) -> None:
    leave_part(target, b"x" + BLOB[1:1000])
    recorder = Recorder()
    fetch(server, target, recorder)
    assert_arrived(target)
    assert ranges(server) == ["bytes=1000-", ""]
    warning = next(event for event in recorder.events if event.kind is EventKind.WARNING)
    assert warning.message == "what was fetched in several pieces is not one whole; starting over"


def test_starts_over_when_the_part_file_is_too_long(server: LyingServer, target: Path) -> None:
    leave_part(target, BLOB + b"more")
    fetch(server, target)
    assert_arrived(target)
    assert ranges(server) == [""]


def test_starts_over_when_the_server_ignores_ranges(server: LyingServer, target: Path) -> None:
    leave_part(target, BLOB[:1000])
    server.lie("/blob", Lie(ignore_range=True))
    fetch(server, target)
    assert_arrived(target)


def test_starts_over_when_the_server_answers_another_range(
    server: LyingServer, target: Path
) -> None:
    leave_part(target, BLOB[:1000])
    server.lie("/blob", Lie(wrong_range_start=900))
    fetch(server, target)
    assert_arrived(target)
    assert ranges(server) == ["bytes=1000-", ""]


def test_refuses_a_range_nobody_asked_for(server: LyingServer, target: Path) -> None:
    server.lie("/blob", *[Lie(status=206)] * 6)
    with pytest.raises(NetworkError) as caught:
        fetch(server, target)
    assert caught.value.code == "truncated"
    assert caught.value.context["found"] == "the server answered another range"


def test_starts_over_when_the_server_knows_no_such_range(server: LyingServer, target: Path) -> None:
    leave_part(target, BLOB[:1000])
    server.lie("/blob", Lie(status=416, body=b""))
    fetch(server, target)
    assert_arrived(target)
    assert ranges(server) == ["bytes=1000-", ""]


def test_believes_416_only_after_hashing_when_no_size_was_promised(
    server: LyingServer, target: Path
) -> None:
    leave_part(target, BLOB)
    assert fetch(server, target, size_bytes=None) == len(BLOB)
    assert_arrived(target)
    assert ranges(server) == [f"bytes={len(BLOB)}-"]


def test_refuses_other_bytes_and_keeps_nothing_of_them(server: LyingServer, target: Path) -> None:
    other = b"x" + BLOB[1:]
    server.lie("/blob", Lie(body=other))
    with pytest.raises(IntegrityError, match="refused the blob") as caught:
        fetch(server, target)
    assert caught.value.code == "digest-mismatch"
    assert caught.value.context == {
        "expected": str(DIGEST),
        "found": f"{Digest.of_bytes(other)} after {len(other)} bytes",
    }
    assert caught.value.hint
    assert list(target.parent.iterdir()) == []


def test_a_server_that_stays_wrong_is_asked_twice_at_most(
    server: LyingServer, target: Path
) -> None:
    wrong = bytes(len(BLOB))
    server.serve("/blob", wrong)
    server.lie("/blob", Lie(cut_after=10))
    with pytest.raises(IntegrityError) as caught:
        fetch(server, target)
    assert caught.value.code == "digest-mismatch"
    assert ranges(server) == ["", "bytes=10-", ""]
    assert list(target.parent.iterdir()) == []


def test_refuses_a_web_page_before_reading_it(server: LyingServer, target: Path) -> None:
    page = b"<html>please log in</html>"
    server.lie("/blob", Lie(body=page, headers={"Content-Type": "text/html; charset=utf-8"}))
    with pytest.raises(IntegrityError, match="the server offers something else") as caught:
        fetch(server, target)
    assert caught.value.code == "size-mismatch"
    assert caught.value.context["found"] == f"{len(page)} bytes of text/html"
    assert caught.value.hint == "it is a web page: a proxy may want a login"


@pytest.mark.parametrize("length", [len(BLOB) + 1, len(BLOB) - 1, 0])
def test_refuses_a_length_that_is_not_the_locked_one(
    server: LyingServer, target: Path, length: int
) -> None:
    server.lie("/blob", Lie(headers={"Content-Length": str(length)}))
    with pytest.raises(IntegrityError) as caught:
        fetch(server, target)
    assert caught.value.code == "size-mismatch"
    assert caught.value.context["expected"] == f"{len(BLOB)} bytes"
    assert len(server.seen) == 1


def test_stops_reading_past_the_expected_size(server: LyingServer, target: Path) -> None:
    server.lie("/blob", Lie(body=BLOB + bytes(50_000_000), chunked=True))
    with pytest.raises(IntegrityError, match="more came than there may be") as caught:
        fetch(server, target)
    assert caught.value.code == "size-mismatch"
    assert list(target.parent.iterdir()) == []


def test_stops_at_the_limit_when_no_size_was_promised(server: LyingServer, target: Path) -> None:
    server.lie("/blob", Lie(chunked=True))
    with pytest.raises(IntegrityError, match="more came than there may be"):
        fetch(server, target, size_bytes=None, limit_bytes=1000)


def test_refuses_a_size_no_honest_blob_has(server: LyingServer, target: Path) -> None:
    with pytest.raises(IntegrityError, match="no honest blob is that large") as caught:
        fetch(server, target, size_bytes=10**10)
    assert caught.value.code == "absurd-size"
    assert server.seen == []


def test_a_body_that_ends_early_without_a_length_is_noticed(
    server: LyingServer, target: Path
) -> None:
    server.lie("/blob", Lie(no_length=True, cut_after=100_000))
    fetch(server, target)
    assert_arrived(target)
    assert ranges(server) == ["", "bytes=100000-"]


def test_gives_up_on_a_server_that_always_cuts(server: LyingServer, target: Path) -> None:
    server.lie("/blob", *[Lie(cut_after=10)] * 50)
    with pytest.raises(NetworkError, match="fetching the blob failed after 6 attempts") as caught:
        fetch(server, target)
    assert caught.value.code == "truncated"
    assert part_path(target, DIGEST).read_bytes() == BLOB[:60]


def test_goes_on_after_a_stall(server: LyingServer, target: Path) -> None:
    server.lie("/blob", Lie(stall_after=1000))
    fetch(server, target)
    assert_arrived(target)
    assert ranges(server) == ["", "bytes=1000-"]


def test_gives_up_on_a_server_that_stalls(server: LyingServer, target: Path) -> None:
    server.lie("/blob", *[Lie(stall_at_once=True)] * 50)
    with pytest.raises(NetworkError) as caught:
        fetch(server, target, read_timeout_s=0.05)
    assert caught.value.code == "timed-out"
    assert caught.value.context["found"] == f"{server.host}: no answer came in time"


def test_a_server_that_drips_counts_as_stalled(server: LyingServer, target: Path) -> None:
    server.lie("/blob", *[Lie(stall_after=10)] * 9)
    recorder = Recorder(seconds_a_look=100_000)
    with pytest.raises(NetworkError) as caught:
        fetch(server, target, recorder)
    assert caught.value.code == "timed-out"
    assert caught.value.context["found"] == "only 10 bytes in 100000 s"


def test_goes_on_after_a_connection_that_closed_without_an_answer(
    server: LyingServer, target: Path
) -> None:
    server.lie("/blob", Lie(close_at_once=True))
    fetch(server, target)
    assert_arrived(target)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408])
def test_tries_again_after_a_status_that_may_pass(
    server: LyingServer, target: Path, status: int
) -> None:
    server.lie("/blob", Lie(status=status, body=b"busy"))
    recorder = Recorder()
    fetch(server, target, recorder)
    assert_arrived(target)
    assert len(recorder.pauses) == 1


def test_waits_as_long_as_429_asks(server: LyingServer, target: Path) -> None:
    server.lie("/blob", Lie(status=429, body=b"", headers={"Retry-After": "17"}))
    recorder = Recorder()
    fetch(server, target, recorder)
    assert recorder.pauses == [17]


@pytest.mark.parametrize(("status", "code"), [(429, "throttled"), (503, "server-error")])
def test_gives_up_on_a_status_that_does_not_pass(
    server: LyingServer, target: Path, status: int, code: str
) -> None:
    server.lie("/blob", *[Lie(status=status, body=b"busy")] * 50)
    with pytest.raises(NetworkError, match="fetching the blob failed after") as caught:
        fetch(server, target)
    assert caught.value.code == code
    assert caught.value.context["found"] == f"{status} from {server.url}/blob"


@pytest.mark.parametrize(
    ("status", "code"), [(404, "not-found"), (403, "forbidden"), (410, "bad-answer")]
)
def test_does_not_try_again_after_a_status_that_will_not_pass(
    server: LyingServer, target: Path, status: int, code: str
) -> None:
    server.lie("/blob", Lie(status=status, body=b"no"))
    with pytest.raises(NetworkError, match="was refused") as caught:
        fetch(server, target)
    assert caught.value.code == code
    assert len(server.seen) == 1


def test_a_file_that_is_there_is_hashed_and_believed(server: LyingServer, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(BLOB)
    recorder = Recorder()
    assert fetch(server, target, recorder) == len(BLOB)
    assert recorder.kinds() == [EventKind.SKIP]
    assert server.seen == []


def test_a_file_with_other_bytes_is_fetched_again(server: LyingServer, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(BLOB[:-1] + b"?")
    recorder = Recorder()
    fetch(server, target, recorder)
    assert_arrived(target)
    assert "held other bytes than its name says" in recorder.events[0].message


def test_a_file_is_hashed_once_a_run(server: LyingServer, target: Path) -> None:
    verified = Verified()
    fetch(server, target, verified=verified)
    recorder = Recorder()
    fetch(server, target, recorder, verified=verified)
    assert recorder.kinds() == [EventKind.SKIP]
    target.write_bytes(b"changed")  # only to show that it is not read again
    assert fetch(server, target, verified=verified) == len(b"changed")


def test_refuses_before_starting_when_there_is_no_room(tmp_path: Path) -> None:
    with LyingServer() as server:
        server.serve("/blob", b"small")
        huge = 10**15
        with pytest.raises(HostError, match="no room for the blob in") as caught:
            fetch(server, tmp_path / "blob", size_bytes=huge, limit_bytes=huge)
        assert server.seen == []
    assert caught.value.code == "no-room"
    assert caught.value.context["needed"] == f"{huge} bytes more"
    assert caught.value.hint


def test_a_full_disc_keeps_the_part_file_and_says_how_much_is_needed(
    server: LyingServer, target: Path
) -> None:
    # the file size limit of the process makes write fail half-way, as a full disc does
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(HostError, match="no room for the blob in") as caught:
            fetch(server, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.code == "no-room"
    assert caught.value.context["needed"] == "100000 bytes more"
    assert caught.value.context["kept"] == "200000 bytes"
    assert part_path(target, DIGEST).read_bytes() == BLOB[:200_000]
    fetch(server, target)
    assert_arrived(target)
    assert ranges(server) == ["", "bytes=200000-"]


def test_refuses_a_part_file_that_is_a_link(server: LyingServer, target: Path) -> None:
    victim = target.parent.parent / "victim"
    victim.write_bytes(b"precious")
    target.parent.mkdir()
    part_path(target, DIGEST).symlink_to(victim)
    with pytest.raises(HostError, match="cannot write the blob to"):
        fetch(server, target)
    assert victim.read_bytes() == b"precious"


def test_two_processes_do_not_write_one_part_file(server: LyingServer, target: Path) -> None:
    server.lie("/blob", Lie(stall_after=10))
    stop = Stop()

    def first() -> None:
        with pytest.raises(StoppedError):
            fetch(server, target, stop=stop, read_timeout_s=30)

    thread = threading.Thread(target=first)
    thread.start()
    assert server.stalled.wait(5)
    with pytest.raises(HostError, match="another process is fetching the blob") as caught:
        fetch(server, target)
    assert caught.value.code == "busy"
    stop.request()
    thread.join(5)
    assert not thread.is_alive()


def test_stop_wakes_a_transfer_that_waits_for_a_silent_server(
    server: LyingServer, target: Path
) -> None:
    server.lie("/blob", Lie(stall_after=1000))
    stop = Stop()
    ended: list[BaseException] = []

    def work() -> None:
        try:
            fetch(server, target, stop=stop, read_timeout_s=60)
        except StoppedError as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert server.stalled.wait(5)
    stop.request()
    thread.join(5)
    assert len(ended) == 1
    assert part_path(target, DIGEST).read_bytes() in (b"", BLOB[:1000])
    fetch(server, target)
    assert_arrived(target)


def test_sha512_digests_are_checked_with_sha512(server: LyingServer, tmp_path: Path) -> None:
    hasher = Digest.parse(f"sha512:{'0' * 128}").new_hasher()
    hasher.update(BLOB)
    digest = Digest.of_hasher(hasher)
    assert fetch(server, tmp_path / digest.hex, digest=digest) == len(BLOB)
    with pytest.raises(IntegrityError, match="refused"):
        fetch(server, tmp_path / "other", digest=Digest.parse(f"sha512:{'0' * 128}"))


def test_an_empty_blob_needs_no_bytes(tmp_path: Path) -> None:
    with LyingServer() as server:
        server.serve("/blob", b"")
        assert fetch(server, tmp_path / "x", digest=Digest.of_bytes(b""), size_bytes=0) == 0
    assert (tmp_path / "x").read_bytes() == b""


@pytest.mark.parametrize(
    ("size_bytes", "buffer_bytes"),
    [
        (1, SMALL_BUFFER_BYTES),
        (DIRECT_FROM_BYTES - 1, SMALL_BUFFER_BYTES),
        (DIRECT_FROM_BYTES, BUFFER_BYTES),
        (10**9, BUFFER_BYTES),
        (None, BUFFER_BYTES),
    ],
)
def test_memory_does_not_grow_with_the_blob_and_small_ones_hold_little(
    tmp_path: Path, size_bytes: int | None, buffer_bytes: int
) -> None:
    held: list[int] = []

    def hold() -> None:  # in a thread of its own: a thread keeps the buffer it had
        part = open_part(tmp_path / DIGEST.hex, Wanted("a blob", DIGEST, size_bytes), lambda: None)
        held.append(len(part.buffer))
        os.close(part.descriptor)

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert held == [buffer_bytes]
