"""A site's Python packages from lock to bundle, with real pip: found, pinned, installed offline."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.support.lying_server import LyingServer
from tests.support.mini_upstream import MiniUpstream, mini_upstream, tls_server
from tests.support.wheels import hash_line, make_wheel

from perimeter_bundle.catalog.values import Release
from perimeter_bundle.catalog.workloads import load_workloads, with_workloads
from perimeter_bundle.collect.build import BuildRequest, BuildResult, build_bundle
from perimeter_bundle.collect.compare import check_lock
from perimeter_bundle.collect.lock import lock_release, unresolved_lock
from perimeter_bundle.collect.python_index import write_python_index
from perimeter_bundle.collect.python_packages import fetch_python_packages, lock_python_packages
from perimeter_bundle.format import layout
from perimeter_bundle.format.signature import generate_key, sign_bundle
from perimeter_bundle.format.trust import Trust
from perimeter_bundle.format.verify import open_bundle
from perimeter_bundle.model.errors import InputError, IntegrityError
from perimeter_bundle.model.events import ignore_events
from perimeter_bundle.model.lock import Lock
from perimeter_bundle.model.locked_package import LockedPackage

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True, slots=True)
class Site:
    """A release, a folder with wheels for pip, and a workloads.yaml."""

    mini: MiniUpstream
    folder: Path

    @property
    def wheels(self) -> Path:
        return self.mini.folder / "wheels"

    def write(self, *packages: str, pythons: str = f'"{PYTHON}"', more: str = "") -> None:
        listed = "".join(f"    - {one}\n" for one in packages)
        self.folder.mkdir(exist_ok=True)
        (self.folder / "workloads.yaml").write_text(
            f"python:\n  packages:\n{listed}  pythons: [{pythons}]\n{more}"
        )

    def release(self) -> Release:
        return with_workloads(self.mini.release(), load_workloads(self.folder / "workloads.yaml"))

    def packages(self) -> dict[str, str]:
        """File name and targets of what locking finds."""
        self.work.mkdir(exist_ok=True)
        environment = self.mini.pip_environment
        found = lock_python_packages(self.release(), self.work, environment, ignore_events)
        return {one.filename: ", ".join(map(str, one.targets)) for one in found}

    def lock(self) -> Lock:
        self.work.mkdir(exist_ok=True)
        environment = self.mini.pip_environment
        return lock_release(
            self.release(), self.mini.upstream(), self.work, pip_environment=environment
        )

    def build(self, lock: Lock, out: Path) -> BuildResult:
        request = BuildRequest(
            release=self.release(),
            catalog=self.mini.catalog(),
            lock_bytes=lock.to_bytes(),
            out=out,
            environment=self.mini.pip_environment,
            requirements=self.mini.requirements,
        )
        return build_bundle(request, self.mini.upstream(), ignore_events)

    @property
    def work(self) -> Path:
        return self.mini.folder / "packages-work"


@pytest.fixture
def site(tmp_path: Path, offline: Site) -> Site:
    make_wheel(offline.wheels, "Train-Tools", requires=["fast-math>=1", "colours; extra == 'x'"])
    make_wheel(offline.wheels, "fast-math", tag="cp39-abi3-manylinux_2_17_x86_64")
    offline.write("Train.Tools==1.0", "fast-math==1.0")
    return offline


@pytest.fixture
def offline(tmp_path: Path) -> Site:
    """Without a server: only pip is asked."""
    server, ca_file = tls_server(tmp_path / "tls")
    with server:
        mini = mini_upstream(server, tmp_path / "mini", ca_file)
    return Site(mini, tmp_path / "site")


def pip(*arguments: str | Path) -> str:
    """What pip says, offline and without its settings."""
    words = [sys.executable, "-m", "pip", "install", "--no-cache-dir", *map(str, arguments)]
    environment = {"PATH": "/usr/bin:/bin", "PIP_CONFIG_FILE": "/dev/null", "HOME": "/nonexistent"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_packages_are_locked_built_verified_and_installed_offline(tmp_path: Path) -> None:
    server, ca_file = tls_server(tmp_path / "tls")
    with server:
        site = Site(mini_upstream(server, tmp_path / "mini", ca_file), tmp_path / "site")
        make_wheel(site.wheels, "Train-Tools", requires=["fast-math>=1"], requires_python=">=3.8")
        make_wheel(site.wheels, "fast-math", tag="cp39-abi3-manylinux_2_17_x86_64")
        site.write("Train.Tools==1.0", "fast-math==1.0")
        lock, out = site.lock(), tmp_path / "out"
        assert Lock.parse(lock.to_bytes()) == lock
        assert str(tmp_path).encode() not in lock.to_bytes()
        site.build(lock, out)
        with pytest.raises(InputError) as caught:
            site.mini.build(lock, tmp_path / "without")
        assert caught.value.hint == "give the same file with --workloads FILE"
    generate_key(tmp_path / "builder.key")
    sign_bundle(out, tmp_path / "builder.key")
    bundle = open_bundle(out, Trust.load(tmp_path / "builder.pub"))
    item = bundle.manifest.find("content/python-index/train_tools-1.0-py3-none-any.whl")
    assert (item.component, item.licence, item.version) == ("workloads", "MIT", "1.0")
    assert item.why == (f"workloads.yaml: for Python {PYTHON} linux/amd64",)
    index = out / layout.PYTHON_INDEX
    pip("--no-index", "--find-links", index, "--target", tmp_path / "a", "train-tools")
    pip("--index-url", f"{(index / 'simple').as_uri()}/", "--target", tmp_path / "b", "train-tools")
    for folder in ("a", "b"):
        assert {path.name for path in (tmp_path / folder).glob("*.py")} == {
            "fast_math.py",
            "train_tools.py",
        }
    page = (index / "simple" / "train-tools" / "index.html").read_text()
    assert 'data-requires-python="&gt;=3.8"' in page


def test_a_web_server_of_plain_files_is_an_index(site: Site, tmp_path: Path) -> None:
    lock = replace(unresolved_lock(site.release()), packages=_locked(site))
    carried = fetch_python_packages(
        lock.packages, site.work, site.mini.pip_environment, ignore_events
    )
    write_python_index(tmp_path / "bundle", carried)
    root = tmp_path / "bundle" / layout.PYTHON_INDEX
    with LyingServer() as server:
        for path in root.rglob("*"):
            name = path.relative_to(root).as_posix()
            if path.name == "index.html":
                name = name.removesuffix("index.html")
                server.serve(f"/{name}", path.read_bytes(), Content_Type="text/html")
            elif path.is_file():
                server.serve(f"/{name}", path.read_bytes())
        pip("--index-url", f"{server.url}/simple/", "--target", tmp_path / "x", "train-tools")
        wheel = "/train_tools-1.0-py3-none-any.whl"
        server.serve(wheel, make_wheel(tmp_path / "evil", "Train-Tools", "1.0").read_bytes())
        with pytest.raises(AssertionError, match="DO NOT MATCH THE HASHES"):
            pip("--index-url", f"{server.url}/simple/", "--target", tmp_path / "y", "train-tools")


def _locked(site: Site) -> tuple[LockedPackage, ...]:
    site.work.mkdir(exist_ok=True)
    return lock_python_packages(site.release(), site.work, site.mini.pip_environment, ignore_events)


def test_each_python_gets_its_own_wheels_and_shares_the_rest(site: Site) -> None:
    for python in ("311", "312"):
        make_wheel(site.wheels, "native", tag=f"cp{python}-cp{python}-manylinux_2_17_x86_64")
    site.write("Train.Tools==1.0", "fast-math==1.0", "native==1.0", pythons='"3.11", "3.12"')
    assert site.packages() == {
        "fast_math-1.0-cp39-abi3-manylinux_2_17_x86_64.whl": "3.11 linux/amd64, 3.12 linux/amd64",
        "native-1.0-cp311-cp311-manylinux_2_17_x86_64.whl": "3.11 linux/amd64",
        "native-1.0-cp312-cp312-manylinux_2_17_x86_64.whl": "3.12 linux/amd64",
        "train_tools-1.0-py3-none-any.whl": "3.11 linux/amd64, 3.12 linux/amd64",
    }


def test_a_hashed_file_pins_the_bytes_and_its_markers_are_judged(offline: Site) -> None:
    one, old = make_wheel(offline.wheels, "one"), make_wheel(offline.wheels, "old")
    offline.write("site.txt", pythons='"3.9", "3.12"')
    text = hash_line(one) + hash_line(old, "python_version < '3.10'")
    (offline.folder / "site.txt").write_text(text)
    assert offline.packages() == {
        "old-1.0-py3-none-any.whl": "3.9 linux/amd64",
        "one-1.0-py3-none-any.whl": "3.12 linux/amd64, 3.9 linux/amd64",
    }
    one.write_bytes(one.read_bytes() + b" ")
    with pytest.raises(IntegrityError) as caught:
        offline.packages()
    assert caught.value.code == "digest-mismatch"


def test_an_sdist_is_refused_by_name(offline: Site) -> None:
    (offline.wheels / "onlysource-1.0.tar.gz").write_bytes(b"setup.py runs anything")
    offline.write("onlysource==1.0")
    with pytest.raises(InputError) as caught:
        offline.packages()
    assert caught.value.code == "no-wheel"
    assert "no wheel of onlysource==1.0 for Python" in caught.value.message
    assert "sdists are not taken" in str(caught.value.hint)


def test_what_listed_packages_need_must_be_listed_or_provided(site: Site) -> None:
    site.write("Train.Tools==1.0")
    with pytest.raises(InputError) as caught:
        site.packages()
    assert caught.value.code == "packages-incomplete"
    assert caught.value.problems == (
        f"train-tools 1.0 needs fast-math on Python {PYTHON} linux/amd64",
    )
    site.write("Train.Tools==1.0", more="  provided: [Fast_Math]\n")
    assert list(site.packages()) == ["train_tools-1.0-py3-none-any.whl"]


def test_a_package_asked_for_twice_is_refused(site: Site) -> None:
    site.write("site.txt", "fast-math==1.0")
    wheel = next(site.wheels.glob("fast_math*"))
    (site.folder / "site.txt").write_text(hash_line(wheel))
    with pytest.raises(InputError) as caught:
        site.packages()
    assert "asks twice for fast-math" in caught.value.message


def test_the_address_of_an_index_is_kept_without_its_credentials(
    offline: Site, tmp_path: Path
) -> None:
    wheel = make_wheel(tmp_path / "served", "one")
    offline.write("one==1.0")
    offline.work.mkdir()
    with LyingServer() as server:
        server.serve(f"/files/{wheel.name}", wheel.read_bytes())
        page = f'<a href="/files/{wheel.name}?token=secret">{wheel.name}</a>'.encode()
        server.serve("/simple/one/", page, Content_Type="text/html")
        index = server.url.replace("://", "://user:password@") + "/simple"
        environment = {"PIP_INDEX_URL": index, "PIP_CONFIG_FILE": "/dev/null"}
        (found,) = lock_python_packages(offline.release(), offline.work, environment, ignore_events)
        assert found.url == f"{server.url}/files/{wheel.name}"
        served = wheel.read_bytes()
        server.serve(f"/files/{wheel.name}", served + b" ")
        with pytest.raises(IntegrityError) as caught:
            fetch_python_packages((found,), offline.work, environment, ignore_events)
        assert caught.value.code == "digest-mismatch"


def test_a_lock_for_other_pythons_or_versions_is_refused(site: Site) -> None:
    lock = replace(unresolved_lock(site.release()), packages=_locked(site))
    digest = lock.packages[0].digest
    lock = replace(
        lock,
        images=tuple(
            replace(one, digest=digest, manifests=dict.fromkeys(lock.platforms, digest))  # type: ignore[arg-type]
            for one in lock.images
        ),
        charts=tuple(replace(one, digest=digest) for one in lock.charts),
        files=tuple(replace(one, digest=digest) for one in lock.files),
    )
    check_lock(lock, site.release())
    site.write("Train.Tools==1.1", "fast-math==1.0", pythons=f'"{PYTHON}", "3.14"')
    with pytest.raises(InputError) as caught:
        check_lock(lock, site.release())
    assert caught.value.message == "the lock was not written with this workloads.yaml"
    assert caught.value.problems == (
        "fast-math==1.0 is not locked for Python 3.14 linux/amd64",
        "train-tools==1.0 is in the lock, not in workloads.yaml",
        "train-tools==1.1 is in workloads.yaml, not in the lock",
    )
