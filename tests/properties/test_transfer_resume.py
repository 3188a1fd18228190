"""However often and wherever a transfer is cut, it ends with the right bytes or none."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.lying_server import Lie, LyingServer
from tests.support.transfers import Recorder, loopback_settings

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import PerimeterError
from perimeter_bundle.registry.part_file import Wanted, part_path
from perimeter_bundle.registry.transfer import download

BLOB = bytes(range(256)) * 40
DIGEST = Digest.of_bytes(BLOB)

positions = st.integers(0, len(BLOB))
lies = st.one_of(
    st.builds(Lie, cut_after=positions),
    st.builds(Lie, cut_after=positions, no_length=st.just(True)),
    st.builds(Lie, cut_after=positions, ignore_range=st.just(True)),
    st.builds(Lie, wrong_range_start=positions),
    st.builds(Lie, status=st.sampled_from([404, 416, 429, 500, 503]), body=st.just(b"no")),
    st.builds(Lie, close_at_once=st.just(True)),
    st.builds(Lie, body=st.binary(max_size=2 * len(BLOB)), chunked=st.booleans()),
    st.builds(Lie, headers=st.builds(lambda n: {"Content-Length": str(n)}, positions)),
)


def fetch(server: LyingServer, target: Path, size_bytes: int | None) -> None:
    recorder = Recorder()
    transport = recorder.transport(loopback_settings(server, read_timeout_s=5.0))
    download(
        lambda headers: transport.open(
            "GET", f"{server.url}/blob", headers, accept=frozenset({416})
        ),
        target,
        Wanted("the blob", DIGEST, size_bytes),
        retrier=recorder.retrier(transport),
        on_event=recorder.on_event,
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(lies, max_size=12),
    st.none() | st.binary(max_size=300) | st.builds(lambda n: BLOB[:n], positions),
    st.booleans(),
)
def test_a_transfer_ends_with_the_right_bytes_or_without_the_name(
    told: list[Lie], left: bytes | None, size_known: bool
) -> None:
    with LyingServer() as server, tempfile.TemporaryDirectory() as folder:
        server.serve("/blob", BLOB)
        server.lie("/blob", *told)
        target = Path(folder) / DIGEST.hex
        if left is not None:
            part_path(target, DIGEST).write_bytes(left)
        for _ in range(len(told) + 1):  # each run uses up at least one lie
            try:
                fetch(server, target, len(BLOB) if size_known else None)
            except PerimeterError:
                assert not target.exists()
            else:
                break
        else:
            pytest.fail("an honest server at last, and still no blob")
        assert target.read_bytes() == BLOB
        assert [path.name for path in Path(folder).iterdir()] == [DIGEST.hex]
