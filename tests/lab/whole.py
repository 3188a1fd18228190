"""What the lab's upstream serves for the whole default release, beside the real programs.

`assemble_whole()` gives a folder like that of `content.assemble()`, with everything in it, and

    registry/    a stand-in (standins.py) for every image of images.lock that the lab has not and
                 that the builder does not compile
    files/       the charts and manifests of every component
    git/         the source trees, as bare repositories of one commit
    whole.json   which references are stand-ins, and the commits of the trees

A tree of the lab has a commit of its own, and where it names an image by digest it names the
stand-in's: so the builder works on a copy of the catalog in which `lab_catalog()` has put that
commit. Nothing else differs from what a user has.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml

from perimeter_bundle.catalog.load import load_catalog, load_release
from perimeter_bundle.catalog.values import ChartSpec, Release
from perimeter_bundle.collect.wanted import WantedFile, wanted_builds, wanted_files
from perimeter_bundle.model.lock import FileKind

from .build import locked
from .content import assemble, references
from .host import alive
from .oci import CREATED, Entry, Layout, write_tar
from .sources import SOURCES, upstream_path
from .standins import StandIns
from .state import REPOSITORY, LabError, cache_folder
from .trees import ARGO, KUBEFLOW, tree_files

RELEASE = "2026.11"
LOCK = REPOSITORY / "images.lock"
CATALOG = REPOSITORY / "manifests"
# Charts whose source says neither version; publishing stamps both.
STAMPED = frozenset({"gpu-operator"})
_DIGEST = re.compile(rb"@(sha256:[0-9a-f]{64})")
_IDENTITY = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Upstream",
    "GIT_AUTHOR_EMAIL": "upstream@upstream.test",
    "GIT_COMMITTER_NAME": "Upstream",
    "GIT_COMMITTER_EMAIL": "upstream@upstream.test",
    "GIT_AUTHOR_DATE": CREATED,
    "GIT_COMMITTER_DATE": CREATED,
}


@dataclass(frozen=True, slots=True)
class Tree:
    """A source tree that a component or another tree names, and where its files come from."""

    address: str  # host and path of the repository
    tag: str
    source: str  # its name in trees.py


TREES = (
    Tree("github.com/kubeflow/manifests", "26.03", KUBEFLOW),
    Tree("github.com/argoproj/argo-workflows", "v3.7.3", ARGO),
)
# Files that a tree names by address: address without scheme → name of an upstream source (.gz)
REMOTE_FILES = {
    "github.com/kubernetes-sigs/jobset/releases/download/v0.10.1/manifests.yaml": "trees/jobset",
}


@dataclass(frozen=True, slots=True)
class Whole:
    """An assembled folder and what is said of it."""

    folder: Path
    stand_ins: frozenset[str]  # full references
    commits: Mapping[str, str]  # address of a tree → its commit


def assemble_whole() -> Whole:
    """The folder, made on first use from `content.assemble()` and this checkout's images.lock."""
    base = assemble()
    target = cache_folder() / f"whole-{_digest(base)}"
    if not target.is_dir():
        workplace = cache_folder() / ".whole"
        with locked(workplace, "assemble the whole release"):
            if not target.is_dir():
                _assemble(base, target, workplace)
    said = json.loads((target / "whole.json").read_text())
    return Whole(target, frozenset(said["stand_ins"]), said["commits"])


def publish_objects(root: Path, release: Release, wanted: Iterable[WantedFile]) -> None:
    """Charts, manifests, and files that trees name, below ``root``; what is there already stays.

    Raises LabError when a program among ``wanted`` is not there.
    """
    _publish_charts(root, release)
    _publish_files(root, wanted)


def publish_trees(root: Path, moved: Mapping[str, str]) -> dict[str, str]:
    """Every source tree as a bare repository; its commit by address. ``moved``: old to new."""
    return {tree.address: _publish_tree(root, tree, moved) for tree in TREES}


def lab_catalog(commits: Mapping[str, str], folder: Path) -> Path:
    """A copy of the catalog whose sources are at the commits that the lab serves."""
    target = folder / "manifests"
    shutil.copytree(CATALOG, target)
    for path in sorted((target / "sources").glob("*.yaml")):
        source = yaml.safe_load(path.read_text())
        commit = commits.get(str(source["git"]).removeprefix("https://"))
        if commit is None:
            raise LabError(f"the lab has no tree for {source['git']}")
        path.write_text(path.read_text().replace(str(source["commit"]), commit))
    return target


def _assemble(base: Path, target: Path, workplace: Path) -> None:
    with tempfile.TemporaryDirectory(dir=workplace, prefix=".work-") as work:
        tree = Path(work) / "tree"
        shutil.copytree(base, tree, copy_function=os.link)
        release = load_release(load_catalog(CATALOG), RELEASE)
        compiled = {str(build.spec.reference) for build in wanted_builds(release)}
        with alive("stand-ins"):
            stand_ins = _put_stand_ins(tree / "registry", {*references(base), *compiled})
        with alive("charts and manifests"):
            publish_objects(tree / "files", release, wanted_files(release))
        moved = {
            reference.partition("@")[2]: digest
            for reference, digest in stand_ins.items()
            if "@" in reference
        }
        with alive("source trees"):
            commits = publish_trees(tree / "git", moved)
        names = sorted(
            f"{name}@{digest}" if "@" in reference else reference
            for reference, digest in stand_ins.items()
            for name in [reference.partition("@")[0]]
        )
        said = {"stand_ins": names, "commits": commits}
        (tree / "whole.json").write_text(json.dumps(said, indent=1, sort_keys=True) + "\n")
        tree.rename(target)


def _put_stand_ins(folder: Path, real: set[str]) -> dict[str, str]:
    layout = Layout(folder)
    layout.manifests = json.loads((folder / "index.json").read_text())["manifests"]
    (folder / "index.json").unlink()  # a link to the base's own, which must stay as it is
    (folder / "oci-layout").unlink()
    with LOCK.open("rb") as stream:
        listed = {str(image["reference"]) for image in tomllib.load(stream)["image"]}
    digests = StandIns(layout).put_all(listed - real)
    layout.finish()
    return digests


def _publish_charts(root: Path, release: Release) -> None:
    """Every chart the base does not serve, packed as `helm package` does, with its index."""
    indexes: dict[Path, dict[str, Any]] = {}
    for component in release.components:
        for spec in component.charts:
            if not spec.repository.startswith("https://"):
                raise LabError(f"the lab serves no OCI registry of charts: {spec.repository}")
            index = root / spec.repository.removeprefix("https://") / "index.yaml"
            if index.is_file() and index not in indexes:
                continue  # the base has it
            entries = indexes.setdefault(index, {})
            entries.setdefault(spec.name, []).append(_publish_chart(index.parent, spec))
    for path, entries in indexes.items():
        document = {"apiVersion": "v1", "entries": entries, "generated": CREATED}
        path.write_text(yaml.safe_dump(document, sort_keys=True))


def _publish_chart(folder: Path, spec: ChartSpec) -> dict[str, Any]:
    source = upstream_path(f"charts/{spec.name}")
    chart: dict[str, Any] = yaml.safe_load((source / "Chart.yaml").read_text())
    chart["version"] = spec.version
    if spec.name in STAMPED:
        chart["appVersion"] = spec.version
    inside = sorted(path for path in source.rglob("*") if path.is_file())
    entries = {str(p.relative_to(source)): Entry("file", p, 0o644) for p in inside}
    entries["Chart.yaml"] = Entry("file", yaml.safe_dump(chart).encode(), 0o644)
    raw = io.BytesIO()
    with gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as packed:
        write_tar(packed, entries, prefix=f"{spec.name}/", parents=False)
    name = f"{spec.name}-{spec.version}.tgz"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(raw.getvalue())
    digest = hashlib.sha256(raw.getvalue()).hexdigest()
    return chart | {"created": CREATED, "digest": digest, "urls": [name]}


def _publish_files(root: Path, wanted: Iterable[WantedFile]) -> None:
    """Every manifest the base does not serve, and the files that trees name by address."""
    for one in wanted:
        address = unquote(one.url.removeprefix("https://"))
        if not (root / address).is_file():
            if one.kind is not FileKind.MANIFEST:
                raise LabError(f"the lab has nothing for {one.url}")
            names = (f"manifests/{name}" for name in (one.name, Path(address).name))
            source = next(name for name in names if name in SOURCES)
            _write(root / address, upstream_path(source).read_bytes())
    for address, name in REMOTE_FILES.items():
        _write(root / address, gzip.decompress(upstream_path(name).read_bytes()))


def _publish_tree(root: Path, tree: Tree, moved: Mapping[str, str]) -> str:
    """One bare repository with the tree as its only commit; gives the commit."""
    repository = root / f"{tree.address}.git"
    repository.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=root) as folder:
        work = Path(folder)
        for path, data in tree_files(tree.source).items():
            if path.endswith(".yaml"):
                data = _DIGEST.sub(lambda m: b"@" + _moved(m[1].decode(), moved), data)
            _write(work / path, data)
        _git(work, "init", "--quiet", "--initial-branch=main")
        _git(work, "add", "--all", "--force")
        _git(work, "commit", "--quiet", "--message", tree.tag)
        _git(work, "tag", tree.tag)
        commit = _git(work, "rev-parse", "HEAD")
        _git(work, "clone", "--quiet", "--bare", str(work), str(repository))
    return commit


def _moved(digest: str, moved: Mapping[str, str]) -> bytes:
    return moved.get(digest, digest).encode()


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **_IDENTITY},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode != 0:
        raise LabError(f"git {words[0]} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def _write(target: Path, data: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)


def _digest(base: Path) -> str:
    here = Path(__file__).resolve().parent
    code = [here / name for name in ("whole.py", "standins.py", "trees.py", "oci.py", "sources.py")]
    catalog = sorted(path for path in CATALOG.rglob("*") if path.is_file())
    lines = [base.name]
    for path in (*code, LOCK, *catalog):
        lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.name}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
