"""perimeter-bundle plan and lock as a user calls them, against a small upstream over TLS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.command import Ended, run_command
from tests.support.images import index_image
from tests.support.lying_server import Lie
from tests.support.mini_upstream import MiniUpstream, mini_upstream, tls_server

from perimeter_bundle.format import layout
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.lock import Lock


class Runner:
    def __init__(self, mini: MiniUpstream, capsys: pytest.CaptureFixture[str]) -> None:
        self.mini = mini
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Ended:
        catalog = ("--catalog", str(self.mini.catalog_root), "--ca-file", str(self.mini.ca_file))
        return run_command(self._capsys, *arguments, *catalog)


@pytest.fixture
def run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Runner]:
    server, ca_file = tls_server(tmp_path / "tls")
    monkeypatch.chdir(tmp_path)
    with server:
        yield Runner(mini_upstream(server, tmp_path / "mini", ca_file), capsys)


def test_plan_without_a_lock_asks_for_sizes_and_fetches_nothing_large(
    run: Runner,
) -> None:
    ended = run("plan", "mini", "--no-lock", "--json")
    assert ended.status == 0, ended.err
    plan = json.loads(ended.out)
    assert plan["unknown"] == ["the images kubeadm v9.9.9 asks for: it must be fetched to be asked"]
    assert all(item["size_bytes"] > 0 for item in plan["items"])
    assert run.mini.blob_requests() == ["/files/extra.yaml"]
    assert "next: perimeter-bundle lock mini" in ended.err


def test_plan_without_a_lock_shows_what_only_a_chart_names_with_its_size(run: Runner) -> None:
    pinned = f"{run.mini.host}/example/shop@{run.mini.image.digest}"
    run.mini.server.serve(
        "/files/extra.yaml", f"kind: Pod\nspec: {{containers: [{{image: '{pinned}'}}]}}\n".encode()
    )
    top = run.mini.image
    path = f"/v2/example/shop/manifests/{top.digest}"
    run.mini.server.serve(path, top.top, Content_Type=top.media_type)
    run.mini.serve_chart(f"{run.mini.host}/example/control-plane:1.0")
    ended = run("plan", "mini", "--no-lock", "--json")
    assert ended.status == 0, ended.err
    plan = json.loads(ended.out)
    items = {item["name"]: item for item in plan["items"]}
    found = items[f"{run.mini.host}/example/control-plane:1.0"]
    assert (found["kind"], found["component"]) == ("image", "shop")
    assert found["size_bytes"] > 0
    assert items[pinned]["size_bytes"] > 0
    # nothing is resolved yet, so nothing lacks a platform
    assert not [one for one in plan["coherence"] if one["id"].startswith("missing-platform")]


def test_an_unresolved_lock_names_what_lock_would_resolve_and_no_registry_is_asked(
    run: Runner, tmp_path: Path
) -> None:
    only_in_the_chart = f"{run.mini.host}/example/only-in-the-chart:1.0"
    run.mini.serve_chart(only_in_the_chart)
    ended = run("lock", "mini", "--unresolved", "--json")
    assert ended.status == 0, ended.err
    asked = [one.path for one in run.mini.server.seen]
    assert not [path for path in asked if path.startswith("/v2")]
    # what is not read is not asked for either
    assert not [path for path in asked if "plain.bin" in path or "shopctl" in path]
    lock = Lock.parse((tmp_path / "images.lock").read_bytes())
    images = {str(one.reference): one for one in lock.images}
    assert set(images) == {
        f"{run.mini.host}/example/control-plane:1.0",
        f"{run.mini.host}/example/shop:1.0",
        f"{run.mini.host}/example/zcopy:1.0",
        only_in_the_chart,
    }
    assert images[only_in_the_chart].why == (
        "shop: container-image: shop/shop: Pod/shop spec.containers[0].image",
    )
    entries = (*lock.images, *lock.charts, *lock.files, *lock.sources)
    assert len(json.loads(ended.out)["unresolved"]) == len(entries)
    assert "next: perimeter-bundle lock mini, where the registries can be asked" in ended.err
    refused = run("build", "mini", "--lock", "images.lock", "--out", "bundle")
    assert refused.status == 2
    assert "error[lock-unresolved]" in refused.err
    assert "hint: run perimeter-bundle lock mini" in refused.err
    run.mini.serve_image("example/only-in-the-chart", "1.0", run.mini.image)
    resolved = run("lock", "mini", "--json")
    assert resolved.status == 0, resolved.err
    differences = json.loads(resolved.out)
    assert (differences["added"], differences["removed"]) == ([], [])
    assert len(differences["resolved"]) == len(entries)


@pytest.mark.parametrize("command", [("plan", "--no-lock"), ("lock",), ("lock", "--unresolved")])
def test_plan_and_lock_refuse_what_nothing_explains_before_an_image_is_asked_for(
    run: Runner, command: tuple[str, ...]
) -> None:
    pod = "kind: Pod\nmetadata: {name: p}\nspec: {containers: [{image: '$NOBODY_SAYS'}]}\n"
    run.mini.server.serve("/files/extra.yaml", pod.encode())
    component = run.mini.catalog_root / "shop" / "component.yaml"
    rule = 'rules: {exclude: [{image: "quay.io/gone:*", reason: a test}]}\n'
    component.write_text(component.read_text() + rule)
    ended = run(*command, "mini")
    assert ended.status == 2
    assert "error[unclassified]" in ended.err
    assert "Pod/p spec.containers[0].image" in ended.err
    assert "$NOBODY_SAYS" in ended.err
    assert "shop: rule matches nothing" in ended.err
    assert not [seen for seen in run.mini.server.seen if seen.path.startswith("/v2/")]
    assert not Path("images.lock").exists()


def test_plan_with_a_lock_uses_no_network(run: Runner) -> None:
    run("lock", "mini")
    run.mini.server.seen.clear()
    ended = run("plan", "mini", "--lock", "images.lock")
    assert ended.status == 0
    assert "as locked" in ended.out
    assert f"{run.mini.host}/example/control-plane:1.0" in ended.out
    assert run.mini.server.seen == []


def test_lock_shows_what_it_adds_and_says_what_is_next(run: Runner) -> None:
    ended = run("lock", "mini")
    assert ended.status == 0, ended.err
    assert f"  + {run.mini.host}/example/shop:1.0\n" in ended.out
    assert "review images.lock, then perimeter-bundle build mini" in ended.err
    assert "  nothing changed" in run("lock", "mini").out


def test_a_moved_name_is_shown_and_taken_over_only_when_told_to(run: Runner) -> None:
    run("lock", "mini")
    before = Path("images.lock").read_bytes()
    run.mini.serve_image("example/shop", "1.0", index_image(("linux/amd64",)))
    ended = run("lock", "mini")
    assert ended.status == 4
    assert "error[moved]: 1 names stand for other bytes than in the lock before" in ended.err
    assert f"{run.mini.host}/example/shop:1.0: was {run.mini.image.digest}, is sha256:" in ended.err
    assert Path("images.lock").read_bytes() == before
    ended = run("lock", "mini", "--accept-moved")
    assert ended.status == 0
    assert f"  ! {run.mini.host}/example/shop:1.0 MOVED" in ended.out
    assert Path("images.lock").read_bytes() != before


def test_a_server_that_answers_rubbish_is_one_clear_error_and_leaves_no_lock(run: Runner) -> None:
    run.mini.server.lie("/charts/index.yaml", *[Lie(body=b"<html>log in</html>")] * 3)
    ended = run("lock", "mini", "--json")
    assert ended.status == 3
    error = json.loads(ended.out)["error"]
    assert error["code"] == "bad-chart-index"
    assert "login" in error["hint"]
    assert not Path("images.lock").exists()


def test_a_platform_that_an_image_lacks_is_named(run: Runner) -> None:
    component = run.mini.catalog_root / "shop" / "component.yaml"
    text = component.read_text().replace("[linux/amd64]", "[linux/amd64, linux/s390x]")
    component.write_text(text)
    cluster = run.mini.catalog_root / "cluster" / "component.yaml"
    cluster.write_text(cluster.read_text().replace("[linux/amd64]", "[linux/amd64, linux/s390x]"))
    run.mini.server.serve("/files/shopctl-1.0-s390x", b"the file is there, the image is not")
    ended = run("plan", "mini", "--no-lock", "--platform", "linux/s390x")
    assert ended.status == 2
    assert "has nothing for linux/s390x" in ended.err


LAYER = b"layer for linux/amd64"
PAGE = {"Content-Type": "text/html"}
LIES = {
    "too long": (
        *(Lie(headers={"Content-Length": str(len(LAYER) + 5)}), 4, "size-mismatch"),
        *("found: 26 bytes", "try a mirror (--mirror)"),
    ),
    "other bytes": (
        *(Lie(body=LAYER[::-1]), 4, "digest-mismatch"),
        *("after 21 bytes\n  from: 127.0.0.1:", "try a mirror (--mirror)"),
    ),
    "packed": (
        *(Lie(headers={"Content-Encoding": "gzip"}), 3, "content-encoding"),
        *("from: https://127.0.0.1:", "another mirror (--mirror)"),
    ),
    "a page": (
        *(Lie(body=b"<html>log in", headers=PAGE), 4, "size-mismatch"),
        *("12 bytes of text/html", "a proxy may want a login"),
    ),
    "to plain text": (
        *(Lie(status=307, headers={"Location": "http://192.0.2.1/x"}), 3, "not-https"),
        *("address: http://192.0.2.1/x", "--mirror HOST=https://MIRROR"),
    ),
    "not now": (
        *(Lie(status=429, headers={"Retry-After": "3600"}), 3, "throttled"),
        *("found: 429 from https://", "come back in 3600 s; log in (docker login)"),
    ),
    "log in": (Lie(status=401), 3, "unauthorized", "found: 401 from", "docker login"),
}


def test_each_lie_about_a_layer_ends_a_build_with_what_to_do_and_nothing_kept(
    run: Runner, tmp_path: Path
) -> None:
    assert run("lock", "mini").status == 0
    blob = Digest.of_bytes(LAYER)
    kept = tmp_path / "bundle" / layout.BLOBS / "sha256"
    for name, (lie, status, code, found, hint) in LIES.items():
        path = f"/v2/example/shop/blobs/{blob}"
        run.mini.server.lies.clear()
        run.mini.server.lie(path, *[lie] * 9)
        ended = run("build", "mini", "--out", str(tmp_path / "bundle"))
        assert (ended.status, f"error[{code}]" in ended.err) == (status, True), (name, ended.err)
        assert found in ended.err, (name, ended.err)
        assert hint in ended.err.partition("hint: ")[2], (name, ended.err)
        assert not (kept / blob.hex).exists()
        assert not (tmp_path / "bundle" / layout.SUMS).exists()
