"""The lab's upstream behaves like the public hosts it stands for, and breaks on order."""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.lab.pki import Authority, server_context
from tests.lab.upstream import serve_layout
from tests.lab.upstream_auth import Tokens
from tests.lab.upstream_content import split_reference, static_file
from tests.lab.upstream_faults import Fault, FaultTable, write_faults
from tests.lab.upstream_http import FileServer, parse_range

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
LAYER = bytes(range(256)) * 4096


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass(frozen=True)
class Client:
    server: FileServer

    def ask(self, path: str, host: str, method: str = "GET", **headers: str) -> Answer:
        connection = http.client.HTTPConnection(self.server.authority, timeout=10)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers={"Host": host, **sent})
            reply = connection.getresponse()
            return Answer(reply.status, reply.headers, reply.read())
        finally:
            connection.close()


def add_blob(layout: Path, data: bytes) -> dict[str, object]:
    hexadecimal = hashlib.sha256(data).hexdigest()
    folder = layout / "blobs/sha256"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hexadecimal).write_bytes(data)
    return {"digest": f"sha256:{hexadecimal}", "size": len(data)}


def add_image(layout: Path, *references: str, label: str = "") -> str:
    config = add_blob(layout, json.dumps({"label": label}).encode())
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config}
    manifest["layers"] = [add_blob(layout, LAYER)]
    descriptor = add_blob(layout, json.dumps(manifest).encode()) | {"mediaType": MANIFEST_TYPE}
    index = layout / "index.json"
    document = json.loads(index.read_text()) if index.exists() else {"manifests": []}
    for reference in references:
        note = {"org.opencontainers.image.ref.name": reference}
        document["manifests"].append({**descriptor, "annotations": note})
    index.write_text(json.dumps(document))
    return str(descriptor["digest"])


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    add_image(
        tmp_path / "registry",
        "plain.test/team/app:1",
        "plain.test/team/app:2",
        "quay.io/minio/minio:1",
        "docker.io/busybox:1",
        "registry.k8s.io/pause:3",
    )
    return tmp_path / "registry"


@pytest.fixture
def faults() -> FaultTable:
    return FaultTable()


@pytest.fixture
def client(layout: Path, faults: FaultTable) -> Iterator[Client]:
    with serve_layout(layout, faults=faults, tokens=Tokens(lifetime_s=2)) as server:
        yield Client(server)


LAYER_PATH = f"/v2/team/app/blobs/sha256:{hashlib.sha256(LAYER).hexdigest()}"


def test_gives_manifest_by_tag_and_digest(client: Client) -> None:
    by_tag = client.ask("/v2/team/app/manifests/1", "plain.test")
    digest = by_tag.headers["Docker-Content-Digest"]
    assert digest == "sha256:" + hashlib.sha256(by_tag.body).hexdigest()
    assert by_tag.headers["Content-Type"] == MANIFEST_TYPE
    assert client.ask(f"/v2/team/app/manifests/{digest}", "plain.test").body == by_tag.body
    head = client.ask("/v2/team/app/manifests/1", "plain.test", "HEAD")
    assert (head.body, head.headers["Content-Length"]) == (b"", str(len(by_tag.body)))


def test_unknown_things_are_named_as_registries_do(client: Client) -> None:
    for path, code in (
        ("/v2/team/app/manifests/9", "MANIFEST_UNKNOWN"),
        ("/v2/team/other/manifests/1", "NAME_UNKNOWN"),
        ("/v2/team/app/blobs/sha256:" + "0" * 64, "BLOB_UNKNOWN"),
        ("/v2/team/app/blobs/sha256:../../index.json", "UNSUPPORTED"),
    ):
        answer = client.ask(path, "plain.test")
        assert answer.status == 404
        assert json.loads(answer.body)["errors"][0]["code"] == code
    assert client.ask("/v2/team/app/blobs/uploads/", "plain.test", "POST").status == 405


def test_blob_of_another_repository_is_not_given(client: Client, layout: Path) -> None:
    other = add_blob(layout, b"of nobody")
    answer = client.ask(f"/v2/team/app/blobs/{other['digest']}", "plain.test")
    assert answer.status == 404


def test_gives_ranges(client: Client) -> None:
    part = client.ask(LAYER_PATH, "plain.test", Range="bytes=1000-1999")
    assert (part.status, part.body) == (206, LAYER[1000:2000])
    assert part.headers["Content-Range"] == f"bytes 1000-1999/{len(LAYER)}"
    rest = client.ask(LAYER_PATH, "plain.test", Range=f"bytes={len(LAYER) - 5}-")
    assert rest.body == LAYER[-5:]
    assert client.ask(LAYER_PATH, "plain.test", Range=f"bytes={len(LAYER)}-").status == 416


def test_lists_tags_in_pages(client: Client) -> None:
    first = client.ask("/v2/team/app/tags/list?n=1", "plain.test")
    assert json.loads(first.body)["tags"] == ["1"]
    following = first.headers["Link"].partition(">")[0].removeprefix("<")
    assert json.loads(client.ask(following, "plain.test").body)["tags"] == ["2"]


def test_token_is_asked_for_and_checked(client: Client) -> None:
    path = "/v2/minio/minio/manifests/1"
    refused = client.ask(path, "quay.io")
    assert refused.status == 401
    challenge = refused.headers["WWW-Authenticate"]
    assert 'realm="http://auth.quay.io/token"' in challenge
    assert 'scope="repository:minio/minio:pull"' in challenge
    scope = "service=quay.io&scope=repository:minio/minio:pull"
    token = json.loads(client.ask(f"/token?{scope}", "auth.quay.io").body)["token"]
    assert client.ask(path, "quay.io", Authorization=f"Bearer {token}").status == 200
    wrong = client.ask(path, "quay.io", Authorization=f"Bearer {token}x")
    assert 'error="invalid_token"' in wrong.headers["WWW-Authenticate"]


def test_token_ends_and_is_for_one_repository() -> None:
    tokens = Tokens(lifetime_s=60)
    token = tokens.issue("quay.io", ["repository:a/b:pull"], now=1000.0)
    assert tokens.refusal(token, "quay.io", "repository:a/b:pull", now=1059.0) is None
    assert tokens.refusal(token, "quay.io", "repository:a/b:pull", now=1061.0) == "invalid_token"
    assert tokens.refusal(token, "quay.io", "repository:a/c:pull", 1001.0) == "insufficient_scope"


def test_docker_hub_answers_under_its_other_name(client: Client) -> None:
    scope = "service=registry.docker.io&scope=repository:library/busybox:pull"
    token = json.loads(client.ask(f"/token?{scope}", "auth.docker.io").body)["token"]
    path, host = "/v2/library/busybox/manifests/1", "registry-1.docker.io"
    assert client.ask(path, host, Authorization=f"Bearer {token}").status == 200


def test_blob_store_refuses_the_registrys_token(client: Client) -> None:
    path = LAYER_PATH.replace("team/app", "pause")
    moved = client.ask(path, "registry.k8s.io")
    assert moved.status == 307
    target = urlsplit(moved.headers["Location"])
    assert target.netloc == "prod-registry-k8s-io.s3.test"
    assert client.ask(target.path, target.netloc).body == LAYER
    assert client.ask(target.path, target.netloc, Authorization="Bearer x").status == 400


def test_host_may_be_the_first_part_on_loopback(client: Client) -> None:
    url = f"{client.server.url}/v2/plain.test/team/app/manifests/1"
    with urllib.request.urlopen(url, timeout=5) as reply:
        assert reply.headers["Docker-Content-Digest"].startswith("sha256:")
    moved = client.ask(LAYER_PATH.replace("team/app", "registry.k8s.io/pause"), "127.0.0.1:1")
    assert moved.headers["Location"].startswith("http://localhost:1/containers/")


def test_serves_new_content_without_a_restart(client: Client, layout: Path) -> None:
    add_image(layout, "plain.test/new:1", label="new")
    assert client.ask("/v2/new/manifests/1", "plain.test").status == 200


def test_static_files_stay_in_their_folder(tmp_path: Path) -> None:
    (tmp_path / "files/dl.test/a").mkdir(parents=True)
    (tmp_path / "files/dl.test/a/tool").write_bytes(b"tool")
    (tmp_path / "secret").write_text("secret")
    files = tmp_path / "files"
    assert static_file(files, "dl.test", "/a/tool") == files / "dl.test/a/tool"
    assert static_file(files, "dl.test", "/../../secret") is None
    assert static_file(files, "..", "/secret") is None
    assert static_file(files, "other.test", "/a/tool") is None


def test_package_index_has_sums(tmp_path: Path) -> None:
    (tmp_path / "Some_Thing-1.0-py3-none-any.whl").write_bytes(b"wheel")
    with serve_layout(None, wheels=[tmp_path]) as server:
        client = Client(server)
        page = client.ask("/simple/some-thing/", "wheels.upstream.test").body.decode()
        assert f"#sha256={hashlib.sha256(b'wheel').hexdigest()}" in page
        path = "/files/Some_Thing-1.0-py3-none-any.whl"
        assert client.ask(path, "wheels.upstream.test").body == b"wheel"
        assert client.ask("/simple/none/", "wheels.upstream.test").status == 404


def test_truncates_and_lies_about_length(client: Client, faults: FaultTable) -> None:
    for fault in (
        Fault("truncate", path=".*/blobs/.*", after_bytes=1_000_000, times=1),
        Fault("length", path=".*/blobs/.*", delta_bytes=5, times=1),
    ):
        faults.set(fault)
        with pytest.raises(http.client.IncompleteRead):
            client.ask(LAYER_PATH, "plain.test")
        assert client.ask(LAYER_PATH, "plain.test").body == LAYER


def test_changes_a_byte_and_stalls(client: Client, faults: FaultTable) -> None:
    faults.set(Fault("corrupt", after_bytes=77, times=1), Fault("stall", seconds=0.3, times=1))
    wrong = client.ask(LAYER_PATH, "plain.test").body
    assert [i for i in range(len(LAYER)) if wrong[i] != LAYER[i]] == [77]
    begin = time.monotonic()
    assert client.ask(LAYER_PATH, "plain.test").body == LAYER
    assert time.monotonic() - begin >= 0.3


def test_too_many_requests_for_a_while(client: Client, faults: FaultTable) -> None:
    faults.set(Fault("status", host="plain.test", status=429, retry_after="7", times=2))
    answers = [client.ask(LAYER_PATH, "plain.test") for _ in range(3)]
    assert [answer.status for answer in answers] == [429, 429, 200]
    assert answers[0].headers["Retry-After"] == "7"


def test_tag_is_moved(client: Client, faults: FaultTable, layout: Path) -> None:
    digest = add_image(layout, label="moved")
    faults.set(Fault("tag", path="/v2/team/app/manifests/1", digest=digest))
    answer = client.ask("/v2/team/app/manifests/1", "plain.test")
    assert answer.headers["Docker-Content-Digest"] == digest


def test_connection_is_dropped(client: Client, faults: FaultTable) -> None:
    faults.set(Fault("drop", times=1))
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        client.ask(LAYER_PATH, "plain.test")


def test_faults_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    table = FaultTable(path)
    assert table.take("GET", "a", "/") is None
    write_faults(path, Fault("status", status=500, times=1))
    taken = table.take("GET", "a", "/")
    assert taken is not None and taken.status == 500
    assert table.take("GET", "a", "/") is None
    with pytest.raises(ValueError, match="unknown setting sort; kind is one of"):
        Fault.parse({"kind": "none", "sort": 1})


def test_speaks_tls_under_all_names(tmp_path: Path, layout: Path) -> None:
    authority = Authority.in_folder(tmp_path)
    certificate, key = tmp_path / "server.crt", tmp_path / "server.key"
    authority.issue(["quay.io", "localhost", "IP:127.0.0.1"], certificate, key)
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with serve_layout(layout, tls=server_context(certificate, key)) as server:
        url = f"{server.url}/v2/plain.test/team/app/manifests/1"
        with urllib.request.urlopen(url, context=context, timeout=5) as reply:
            assert reply.status == 200
        assert server.requests[-1]["status"] == 200


def test_log_tells_of_the_token_but_not_its_text(client: Client) -> None:
    client.ask("/v2/team/app/manifests/1", "plain.test", Authorization="Bearer secret")
    deadline = time.monotonic() + 2
    while not client.server.requests and time.monotonic() < deadline:
        time.sleep(0.01)
    entry = client.server.requests[-1]
    assert entry["authorization"] is True
    assert "secret" not in json.dumps(entry)


def test_reads_references_and_ranges() -> None:
    assert split_reference("docker.io/busybox:1") == ("docker.io", "library/busybox", "1")
    assert split_reference("a.test:5000/b/c") == ("a.test:5000", "b/c", "")
    assert split_reference("quay.io/a/b:1@sha256:00") == ("quay.io", "a/b", "1")
    assert parse_range("bytes=-10", 100) == (90, 99)
    assert parse_range("bytes=5-", 100) == (5, 99)
    assert parse_range("bytes=200-", 100) == (0, -1)
    assert parse_range("lines=1-2", 100) is None
