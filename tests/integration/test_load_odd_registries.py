"""`perimeter-install load` into registries that keep to the letter of the OCI specification only,
and into what is none: each time the bundle arrives whole, or the message says what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.support.bundles import SmallBundle, make_bundle
from tests.support.command import Ended, run_command
from tests.support.distribution import Distribution
from tests.support.large_bundles import add_image
from tests.support.lines import Change, Fault, Request, proxy
from tests.support.sites import make_site

from perimeter_bundle.format.verify import open_bundle
from perimeter_installer.cli import load_command
from perimeter_installer.cli.main import cli
from perimeter_installer.load.load import bundle_content
from perimeter_installer.site.model import Site

MIB = 1 << 20
Answer = tuple[int, dict[str, str]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> SmallBundle:
    made = make_bundle(tmp_path_factory.mktemp("bundle"))
    add_image(made, "quay.io/test/large:1", layer_bytes=[3 * MIB, 2 * MIB, 100_000])
    return made


class Stand:
    """A fresh registry, and the command that loads the bundle into it through a proxy."""

    def __init__(
        self,
        registry: Distribution,
        bundle: SmallBundle,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.registry, self.bundle = registry, bundle
        self._site = make_site(folder, registry_url="https://registry.example")
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self.seen: list[Request] = []

    def load(self, fault: Fault = lambda request: None, change: Change | None = None) -> Ended:
        def noting(request: Request) -> Answer | None:
            self.seen.append(request)
            return fault(request)

        more: tuple[Any, ...] = (change,) if change else ()
        with proxy(self.registry.port, noting, *more) as url:

            def moved(path: Path) -> Site:
                # site.yaml refuses an address on loopback: no node could reach it
                return replace(self._site, registry=replace(self._site.registry, url=url))

            self._monkeypatch.setattr(load_command, "load_site", moved)
            return run_command(
                self._capsys,
                *("load", "--site", self._site.folder / "site.yaml"),
                *("--bundle", self.bundle.root, "--trust", self.bundle.trust_folder, "--json"),
                program=cli,
            )

    def error(self, fault: Fault) -> tuple[int, dict[str, Any]]:
        ended = self.load(fault)
        error: dict[str, Any] = json.loads(ended.out)["error"]
        return ended.status, error

    def holds_everything(self) -> bool:
        bundle = open_bundle(self.bundle.root, self.bundle.trust)
        wanted = {need.digest.hex for need in bundle_content(bundle).blobs}
        return wanted <= self.registry.blobs()


@pytest.fixture
def stand(
    bundle: SmallBundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Stand]:
    with Distribution(tmp_path / "registry", plain=True) as registry:
        yield Stand(registry, bundle, tmp_path / "site", monkeypatch, capsys)


def test_a_registry_without_chunked_uploads_gets_the_blob_whole_again_after_a_cut(
    stand: Stand,
) -> None:
    cut: list[str] = []

    def fault(request: Request) -> Answer | None:
        if request.method == "PATCH":
            return 405, {}
        if request.method == "PUT" and request.size_bytes > MIB and not cut:
            cut.append(request.path)
            return 502, {}
        return None

    ended = stand.load(fault)
    assert ended.status == 0, ended.out
    assert stand.holds_everything()
    assert len([one for one in stand.seen if one.method == "PATCH"]) == 1


def test_a_proxy_with_a_limit_before_a_registry_without_chunked_uploads_is_named(
    stand: Stand,
) -> None:
    def fault(request: Request) -> Answer | None:
        if request.method == "PATCH":
            return 501, {}
        return (413, {}) if request.size_bytes > MIB else None

    status, error = stand.error(fault)
    assert (status, error["code"]) == (3, "registry-refused")
    assert "answered 413 to: send sha256:" in error["message"]
    assert "client_max_body_size 0" in error["hint"]


def test_a_registry_whose_places_are_relative_and_that_hangs_up_each_time_is_filled(
    stand: Stand,
) -> None:
    def change(request: Request, headers: dict[str, str]) -> dict[str, str]:
        if "Location" in headers and request.method in ("POST", "PATCH"):
            place = urlsplit(headers["Location"])
            # relative to the request, as RFC 3986 has it
            last = place.path.rpartition("/")[2]
            headers["Location"] = f"{last}?{place.query}"
        return {**headers, "Connection": "close"}

    ended = stand.load(change=change)
    assert ended.status == 0, ended.out
    assert stand.holds_everything()


def test_a_registry_that_states_no_digests_is_asked_for_the_manifests(stand: Stand) -> None:
    def change(request: Request, headers: dict[str, str]) -> dict[str, str]:
        if headers.pop("Docker-Content-Digest", "") and request.number % 2:
            headers["Docker-Content-Digest"] = "rubbish"
        return headers

    first = stand.load(change=change)
    assert first.status == 0, first.out
    assert stand.holds_everything()
    stand.seen.clear()
    assert stand.load(change=change).status == 0
    assert {one.method for one in stand.seen} == {"GET", "HEAD"}


def test_a_registry_that_keeps_blobs_elsewhere_is_believed_that_it_has_them(stand: Stand) -> None:
    assert stand.load().status == 0
    stand.seen.clear()
    lost = "/v2/quay.io/test/large/manifests/1"

    def fault(request: Request) -> Answer | None:
        if request.method == "HEAD" and request.path == lost:
            return 404, {}  # so that blobs are looked for
        if request.method == "HEAD" and "/blobs/" in request.path:
            return 307, {"Location": "https://storage.example/signed"}
        return None

    ended = stand.load(fault)
    sent = [one for one in stand.seen if one.method in ("POST", "PATCH")]
    assert (ended.status, sent) == (4, [])  # the manifest cannot be found at the end, either
    assert "do not resolve" in ended.out
    assert any("/blobs/" in one.path for one in stand.seen)


@pytest.mark.parametrize(
    ("path", "status", "headers", "said", "hint"),
    [
        ("", 200, {"Content-Type": "text/html"}, "answered with a web page to", "login page"),
        ("", 302, {"Location": "https://login.example/"}, "answered 302 to: ask", "login page"),
        ("", 404, {}, "answered 404 to: ask", "is registry.url the registry's own address"),
        ("/uploads/", 404, {}, "answered 404 to: send", "Harbor wants one to be made before"),
        ("/uploads/", 202, {}, "did not say where", "remove headers"),
        ("/uploads/", 200, {}, "answered 200 to: send", "the registry's log"),
        ("/uploads/", 403, {}, "does not let us send", "user and password"),
        (
            *("/uploads/", 202, {"Location": "https://other.example/1"}),
            *("sends the upload", "external address"),
        ),
    ],
)
def test_what_is_no_registry_or_will_not_take_it_says_what_to_look_at(
    stand: Stand, path: str, status: int, headers: dict[str, str], said: str, hint: str
) -> None:
    ended, error = stand.error(lambda request: (status, headers) if path in request.path else None)
    assert ended in (3, 5)
    assert said in error["message"]
    assert hint in error["hint"]
    assert stand.registry.blobs() == set()
