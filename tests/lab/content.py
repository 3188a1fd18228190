"""What the lab's upstream serves: one folder with a registry's images and static files.

`assemble()` gives `<cache>/upstream-<digest>/`, made on first use:

    registry/                 an OCI layout; each index.json entry is named by its full reference
    files/<host>/<path…>      files at the very paths where their projects publish them
    files/modules.upstream.test/   a Go module proxy, for images that the builder compiles

The digest covers the recipes, the charts, what the catalog compiles and the code that makes the
folder, so a folder that exists is complete and up to date. `python -m tests.lab.content` prints its
path.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .build import build, locked
from .host import alive, say
from .images import recipes_needed, write_layout
from .modules import PROXY_HOST, go_archive, identity, publish_modules
from .oci import CREATED, REF_NAME, Entry, write_tar
from .recipes import FOLDER as RECIPES
from .recipes import load_recipe
from .sources import upstream_path
from .state import LabError, cache_folder

KUBERNETES = "dl.k8s.io/v{version}/bin/linux/amd64"
FLANNEL_CHART = "github.com/flannel-io/flannel/releases/download/v{version}/flannel.tgz"
RELEASE = "2026.11-base"  # whose images the builder compiles
ROOM_GIB = 4


@dataclass(frozen=True, slots=True)
class Archive:
    """A release file with programs of one recipe in it, as the project packs it."""

    recipe: str
    path: str  # {version} is the recipe's
    inside: str = ""  # prefix of the names in the archive
    sums: tuple[str, ...] = (".sha256sum",)  # files beside it that have its digest
    list_of_sums: str = ""  # a file beside it that lists the digests of all archives


ARCHIVES = (
    Archive(
        "containerd",
        "github.com/containerd/containerd/releases/download/v{version}/"
        "containerd-static-{version}-linux-amd64.tar.gz",
        inside="bin/",
    ),
    Archive(
        "cni-plugins",
        "github.com/containernetworking/plugins/releases/download/v{version}/"
        "cni-plugins-linux-amd64-v{version}.tgz",
        inside="./",
        sums=(".sha256",),
    ),
    Archive(
        "cri-tools",
        "github.com/kubernetes-sigs/cri-tools/releases/download/v{version}/"
        "crictl-v{version}-linux-amd64.tar.gz",
        sums=(".sha256",),
    ),
    Archive(
        "distribution",
        "github.com/distribution/distribution/releases/download/v{version}/"
        "registry_{version}_linux_amd64.tar.gz",
        sums=(".sha256",),
    ),
    Archive(
        "etcd",
        "github.com/etcd-io/etcd/releases/download/v{version}/etcd-v{version}-linux-amd64.tar.gz",
        inside="etcd-v{version}-linux-amd64/",
        sums=(),
    ),
    Archive(
        "helm",
        "get.helm.sh/helm-v{version}-linux-amd64.tar.gz",
        inside="linux-amd64/",
        sums=(".sha256sum", ".sha256"),
    ),
    Archive(
        "kustomize",
        "github.com/kubernetes-sigs/kustomize/releases/download/kustomize/v{version}/"
        "kustomize_v{version}_linux_amd64.tar.gz",
        sums=(),
        list_of_sums="checksums.txt",
    ),
)
# Projects that publish the digest alone in this file; all others write `<digest>  <name>`.
BARE_DIGESTS = ("dl.google.com/", "dl.k8s.io/", "get.helm.sh/", "github.com/kubernetes-sigs/")


def assemble() -> Path:
    """The folder that upstream serves from, built on first use (minutes, with all programs)."""
    target = cache_folder() / f"upstream-{_digest()}"
    if target.is_dir():
        return target
    programs = _programs()
    workplace = cache_folder() / ".upstream"
    with locked(workplace, "assemble upstream"):
        if target.is_dir():
            return target
        _check_room()
        with tempfile.TemporaryDirectory(dir=workplace, prefix=".work-") as work:
            tree = Path(work) / "tree"
            (tree / "registry").mkdir(parents=True)
            with alive("images"):
                write_layout(tree / "registry", programs)
            with alive("release files and charts"):
                _write_files(tree / "files")
            tree.rename(target)
    return target


def references(tree: Path) -> list[str]:
    """Full references of the images in an assembled folder."""
    index = json.loads((tree / "registry/index.json").read_text())
    return [manifest["annotations"][REF_NAME] for manifest in index["manifests"]]


def files(tree: Path) -> dict[str, int]:
    """Address without scheme → size of every static file in an assembled folder."""
    root = tree / "files"
    found = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.stat().st_size for path in found}


def _recipes() -> list[str]:
    released = {archive.recipe for archive in ARCHIVES}
    return sorted(recipes_needed() | released | {"kubernetes", "runc"})


def _programs() -> dict[str, Path]:
    folders = build(_recipes())
    return {path.name: path for folder in folders.values() for path in folder.iterdir()}


def _digest() -> str:
    here = Path(__file__).resolve().parent
    code = [
        here / name for name in ("content.py", "images.py", "modules.py", "oci.py", "sources.py")
    ]
    code += [RECIPES / "debian.py", RECIPES / "__init__.py"]
    charts = [upstream_path(name) for name in ("charts/flannel", "charts/minio")]
    manifest = upstream_path("manifests/local-path-storage.yaml")
    lines = [f"{_sha256(path)} {path.name}" for path in (*code, manifest)]
    lines += identity(RELEASE)
    for name in _recipes():
        # Go's version is left out: it must be known without Go, and it changes no behaviour
        lines.append(f"{load_recipe(name).digest('')} {name}")
    for chart in charts:
        inside = sorted(path for path in chart.rglob("*") if path.is_file())
        lines += [f"{_sha256(path)} {path.relative_to(chart)}" for path in inside]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _check_room() -> None:
    free = shutil.disk_usage(cache_folder()).free
    if free < ROOM_GIB << 30:
        raise LabError(
            f"upstream's content needs {ROOM_GIB} GiB in {cache_folder()}, "
            f"{free / 2**30:.1f} GiB are free"
        )


def _write_files(root: Path) -> None:
    version = load_recipe("kubernetes").version
    kubernetes = build(["kubernetes"])["kubernetes"]
    for name in ("kubeadm", "kubelet", "kubectl"):
        path = f"{KUBERNETES.format(version=version)}/{name}"
        _publish(root, path, (kubernetes / name).read_bytes(), (".sha256",))
    for archive in ARCHIVES:
        _publish_archive(root, archive)
    runc = load_recipe("runc")
    program = build(["runc"])["runc"] / "runc"
    folder = f"github.com/opencontainers/runc/releases/download/v{runc.version}"
    _publish(root, f"{folder}/runc.amd64", program.read_bytes(), ())
    sums = f"{_sha256(program)}  runc.amd64\n"
    _publish(root, f"{folder}/runc.sha256sum", sums.encode(), ())
    _publish_chart(
        root, "minio", "charts.min.io", "charts.min.io/helm-releases/minio-{version}.tgz"
    )
    _publish_chart(root, "flannel", "flannel-io.github.io/flannel", FLANNEL_CHART)
    provisioner = load_recipe("local-path-provisioner").version
    manifest = upstream_path("manifests/local-path-storage.yaml").read_bytes()
    folder = f"raw.githubusercontent.com/rancher/local-path-provisioner/v{provisioner}/deploy"
    _publish(root, f"{folder}/local-path-storage.yaml", manifest, ())
    path, entries = go_archive()
    _publish(root, path, _tar_gz(entries, "go/"), (".sha256",))
    publish_modules(root / PROXY_HOST, RELEASE)


def _publish(root: Path, path: str, data: bytes, sums: Iterable[str]) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    for suffix in sums:
        bare = suffix == ".sha256" and path.startswith(BARE_DIGESTS)
        text = digest if bare else f"{digest}  {target.name}\n"
        target.with_name(target.name + suffix).write_text(text)


def _publish_archive(root: Path, archive: Archive) -> None:
    version = load_recipe(archive.recipe).version
    folder = build([archive.recipe])[archive.recipe]
    prefix = archive.inside.format(version=version)
    entries = {path.name: Entry("file", path) for path in sorted(folder.iterdir())}
    packed = _tar_gz(entries, prefix)
    path = archive.path.format(version=version)
    _publish(root, path, packed, archive.sums)
    if archive.list_of_sums:
        target = root / path
        line = f"{hashlib.sha256(packed).hexdigest()}  {target.name}\n"
        target.with_name(archive.list_of_sums).write_text(line)


def _tar_gz(entries: Mapping[str, Entry], prefix: str) -> bytes:
    """The entries as a .tar.gz that is the same each time."""
    with tempfile.TemporaryFile() as raw:
        with gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as packed:
            write_tar(packed, entries, prefix=prefix, parents=False)
        raw.seek(0)
        return raw.read()


def _publish_chart(root: Path, name: str, repository: str, address: str) -> None:
    """Package a chart as `helm package` does, and write the repository's index beside it."""
    folder = upstream_path(f"charts/{name}")
    chart: dict[str, Any] = yaml.safe_load((folder / "Chart.yaml").read_text())
    inside = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = {str(p.relative_to(folder)): Entry("file", p, 0o644) for p in inside}
    packed = _tar_gz(entries, f"{chart['name']}/")
    version = str(chart["version"])
    path = address.format(version=version.removeprefix("v"))
    _publish(root, path, packed, ())
    entry = chart | {
        "created": CREATED,
        "digest": hashlib.sha256(packed).hexdigest(),
        "urls": [f"https://{path}"],
    }
    index = {"apiVersion": "v1", "entries": {name: [entry]}, "generated": CREATED}
    text = yaml.safe_dump(index, sort_keys=True)
    _publish(root, f"{repository}/index.yaml", text.encode(), ())


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _list(tree: Path, line: Callable[[str], None]) -> None:
    index = json.loads((tree / "registry/index.json").read_text())
    for manifest in index["manifests"]:
        line(f"image {manifest['annotations'][REF_NAME]}@{manifest['digest']}")
    for path, size in files(tree).items():
        line(f"file  https://{path}  {size}")


def main(argv: Sequence[str] | None = None) -> int:
    """Assemble, and print the folder or what is in it."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.content", description=__doc__)
    parser.add_argument("--list", action="store_true", help="print references and files instead")
    request = parser.parse_args(argv)
    try:
        tree = assemble()
    except LabError as err:
        say(f"error: {err}")
        return 1
    if request.list:
        _list(tree, print)
    else:
        print(tree)
    return 0


if __name__ == "__main__":
    sys.exit(main())
