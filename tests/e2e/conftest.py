"""One lab for all end-to-end tests; each stage of the road is walked once and then looked at.

The stages build on one another in the order of the files: 00 the lab, 10 the bundle, 20 and up
the site. A stage that fails fails the tests of the later ones, with its own error.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.lab import Lab, StateFolder
from tests.lab.content import assemble
from tests.lab.scenario import Scenario
from tests.lab.state import cache_folder
from tests.lab.upstream_faults import Fault, write_faults
from tests.lab.wheels import wheel_folder


@pytest.fixture(scope="session")
def content() -> Path:
    """What the upstream serves; built from source when the cache does not hold it."""
    return assemble()


@pytest.fixture(scope="session")
def road(content: Path) -> Iterator[Scenario]:
    """A lab without a default route on the closed side, its upstream running."""
    wheels = wheel_folder(cache_folder())
    lab = Lab.up(3, "none")
    lab.start_upstream(content, wheels.folder)
    yield Scenario(lab, wheels)
    lab.clean()


@pytest.fixture(scope="session")
def builder(road: Scenario) -> Scenario:
    """perimeter-bundle is installed on the builder."""
    road.install_builder()
    return road


@pytest.fixture(scope="session")
def locked(builder: Scenario) -> Scenario:
    """images.lock is on the builder."""
    builder.lock()
    return builder


@pytest.fixture(scope="session")
def bundle(locked: Scenario) -> Scenario:
    """A signed bundle is on the builder."""
    locked.build()
    locked.sign()
    return locked


@pytest.fixture(scope="session")
def carried(bundle: Scenario) -> Scenario:
    """The bundle and the builder's public key are on the jump host."""
    bundle.carry()
    return bundle


@pytest.fixture(scope="session")
def bootstrapped(carried: Scenario) -> Scenario:
    """perimeter-install is on the jump host."""
    carried.verify_script()
    carried.bootstrap()
    return carried


@pytest.fixture(scope="session")
def described(bootstrapped: Scenario) -> Scenario:
    """site.yaml is written, host keys are pinned."""
    bootstrapped.init()
    return bootstrapped


@pytest.fixture(scope="session")
def loaded(described: Scenario) -> Scenario:
    """The registries hold the bundle."""
    described.install("load")
    return described


@pytest.fixture(scope="session")
def installed(loaded: Scenario) -> Scenario:
    """The site is installed."""
    loaded.install("apply")
    return loaded


@pytest.fixture
def faults() -> Iterator[Callable[..., None]]:
    """Makes the upstream misbehave for one test."""
    path = StateFolder.from_environment().upstream_faults

    def order(*ordered: Fault) -> None:
        write_faults(path, *ordered)

    yield order
    write_faults(path)


class UpstreamLog:
    """What the builder asked the upstream for since a mark."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mark()

    def mark(self) -> None:
        """Forget everything asked so far."""
        self._offset = self.path.stat().st_size if self.path.exists() else 0

    def requests(self) -> list[dict[str, Any]]:
        with self.path.open(errors="replace") as log:
            log.seek(self._offset)
            return [json.loads(line) for line in log if line.startswith("{")]

    def downloads(self) -> Counter[str]:
        """How often each blob and file moved whole or in part; the key is host and path."""
        return Counter(
            f"{entry['host']}{entry['path']}"
            for entry in self.requests()
            if entry["method"] == "GET" and entry["bytes"] > 0 and _is_content(entry["path"])
        )


def _is_content(path: str) -> bool:
    """Blobs and files; not tokens, manifests, package indexes or checksums."""
    small = (".yaml", ".sha256", ".sha256sum", ".json")
    return "/blobs/" in path or not (
        path.startswith(("/v2/", "/token", "/simple", "/-/")) or path.endswith((*small, ".whl"))
    )


@pytest.fixture
def upstream_log() -> UpstreamLog:
    """The upstream's access log from here on."""
    return UpstreamLog(StateFolder.from_environment().upstream_log)
