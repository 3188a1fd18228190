"""Bytes of extents on their way into a socket, plain and encrypted."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_bytes

import pytest

from perimeter_bundle.format.extent import Extent
from perimeter_bundle.model import tls
from perimeter_bundle.model.errors import IntegrityError
from perimeter_installer.load import retry
from perimeter_installer.load.body import BlobBody, Cancelled, check_extents, read_extents
from perimeter_installer.run.certificates import make_ca, make_server_certificate

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def volumes(tmp_path: Path) -> tuple[Extent, ...]:
    """A blob in two files, with other bytes before and behind it."""
    size = retry.PIECE_BYTES + retry.TLS_BLOCK_BYTES + 17
    (tmp_path / "1").write_bytes(b"before" + os.urandom(size))
    (tmp_path / "2").write_bytes(os.urandom(5) + b"behind")
    return (Extent(tmp_path / "1", 6, size), Extent(tmp_path / "2", 0, 5))


@pytest.fixture(params=["plain", "tls"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Pair:
    near, far = socket.socketpair()
    near.settimeout(10)
    if request.param == "plain":
        return near, far
    now = datetime.now(UTC)
    ca = make_ca("test", now, token_bytes)
    server = make_server_certificate(ca, ("localhost",), now, token_bytes)
    (tmp_path / "pem").write_text(server.certificate + server.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    with ThreadPoolExecutor(1) as pool:
        wrapped = pool.submit(context.wrap_socket, far, server_side=True)
        client = tls.client_context(ca_pem=ca.certificate, only_ca=True)
        return client.wrap_socket(near, server_hostname="localhost"), wrapped.result(10)


def received(pair: Pair, body: BlobBody) -> bytes:
    near, far = pair

    def receive() -> bytes:
        parts = []
        while data := far.recv(1 << 20):
            parts.append(data)
        return b"".join(parts)

    with ThreadPoolExecutor(1) as pool:
        whole = pool.submit(receive)
        for piece in body:
            piece.send_over(near)
        near.shutdown(socket.SHUT_RDWR)
        near.close()
        return whole.result(10)


def test_a_blob_in_two_files_arrives_as_one(volumes: tuple[Extent, ...], pair: Pair) -> None:
    sent: list[int] = []
    expected = b"".join(
        one.path.read_bytes()[one.offset : one.offset + one.size_bytes] for one in volumes
    )
    assert received(pair, BlobBody(volumes, sent.append, threading.Event())) == expected
    assert sum(sent) == len(expected)
    assert read_extents(volumes) == expected


def test_a_file_that_is_cut_while_it_is_sent_is_named(
    volumes: tuple[Extent, ...], pair: Pair
) -> None:
    first = volumes[0]
    near, far = pair
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: all(iter(lambda: far.recv(1 << 20), b"")))
        with pytest.raises(IntegrityError, match=r"1 changed since") as raised:
            for piece in BlobBody(volumes, lambda count: None, threading.Event()):
                piece.send_over(near)
                os.truncate(first.path, first.offset + retry.PIECE_BYTES + 1)
        near.close()
    assert raised.value.code == "size-mismatch"


def test_a_medium_that_is_gone_or_too_short_is_named_before_anything_is_sent(
    volumes: tuple[Extent, ...],
) -> None:
    total = sum(one.size_bytes for one in volumes)
    check_extents(volumes, total)
    with pytest.raises(IntegrityError, match="changed since the bundle was verified"):
        check_extents(volumes, total + 1)
    os.truncate(volumes[1].path, 4)
    with pytest.raises(IntegrityError, match=r"2 changed since the bundle was verified"):
        check_extents(volumes, total)
    volumes[0].path.unlink()
    with pytest.raises(IntegrityError, match=r"cannot read .*1: No such file"):
        check_extents(volumes, total)


def test_a_link_instead_of_a_file_is_not_followed(volumes: tuple[Extent, ...]) -> None:
    path = volumes[1].path
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(IntegrityError, match=r"cannot read .*2"):
        read_extents(volumes)


def test_stopping_waits_for_one_piece_at_most(volumes: tuple[Extent, ...]) -> None:
    cancelled = threading.Event()
    sent: list[int] = []
    body = BlobBody(volumes, sent.append, cancelled)
    with pytest.raises(Cancelled):
        for _ in body:
            cancelled.set()
    assert sent == [retry.PIECE_BYTES]
