"""A source of the bundle rendered again with the site's values, by the bundle's own kustomize.

1. The source's archive and kustomize's archive are hashed once more when they are read.
2. The tree is unpacked as strictly as it was packed; an overlay with the site's patches is added.
3. kustomize runs without a network of its own where the system allows it, with no git in reach.
4. The builder's own discovery looks at the result: an image that the bundle does not hold, or a
   string that nobody explained, is refused (render_gate.py).
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from perimeter_bundle.discover.discover import discover
from perimeter_bundle.format.discovery_file import NotedDiscovery, parse_discovery
from perimeter_bundle.format.layout import DISCOVERY, RENDERED, blob_path
from perimeter_bundle.format.manifest import BundleItem, ItemKind
from perimeter_bundle.format.source_tree import unpack_tree
from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.format.verify import VerifiedBundle
from perimeter_bundle.model.errors import HostError, InputError, IntegrityError
from perimeter_bundle.model.reference import INTERNAL_HOST
from perimeter_installer.run.render_gate import refusals

KUSTOMIZE_FILES = f"{INTERNAL_HOST}/files/kustomize/kustomize:"
OVERLAY = "perimeter-site"  # folder of the overlay in the unpacked tree
RENDER_TIMEOUT_S = 300.0
MAX_OBJECTS_BYTES = 64 * MIB
MAX_PROGRAM_BYTES = 256 * MIB
_NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True, slots=True)
class SiteRender:
    """What is rendered: a component's kustomization in a source, and the site's patches."""

    component: str
    name: str  # of the kustomization, as in manifest/rendered/<component>/<name>.yaml
    source: str
    path: str
    patches: Sequence[Mapping[str, object]] = ()  # whole objects, merged over what is rendered


def render_for_site(bundle: VerifiedBundle, wanted: SiteRender) -> bytes:
    """The objects with the site's values; raises when one needs an image the bundle lacks.

    Raises InputError[not-in-bundle], [bad-manifest-file], IntegrityError[bad-source],
    [bad-discovery], [not-rendered], [image-not-in-bundle], HostError[cannot-run].
    """
    item = _source(bundle, wanted.source)
    files = unpack_tree(bundle.read(blob_path(item.payload)), item.name)  # 1, 2
    if any(path.partition("/")[0] == OVERLAY for path in files):
        raise IntegrityError("bad-source", f"{item.name} holds a folder called {OVERLAY}")
    with tempfile.TemporaryDirectory(prefix="perimeter-render-") as name:
        root = Path(name)
        tree, program = root / "tree", root / "kustomize"
        program.write_bytes(_program(bundle))
        program.chmod(0o700)
        for path, data in {**files, **_overlay(wanted)}.items():
            target = tree / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        objects = _run(program, tree / OVERLAY, root, f"{wanted.source}: {wanted.path}")  # 3
    _refuse_missing(bundle, objects, wanted)  # 4
    return objects


def _source(bundle: VerifiedBundle, name: str) -> BundleItem:
    for item in bundle.manifest.items_of(ItemKind.SOURCE):
        if item.reference.repository == f"sources/{name}":
            return item
    raise InputError("not-in-bundle", f"source {name} is not in this bundle")


def _overlay(wanted: SiteRender) -> dict[str, bytes]:
    """A kustomization over the one that is wanted; each patch is a file of its own."""
    patches = {f"patch-{number}.yaml": one for number, one in enumerate(wanted.patches)}
    kustomization: dict[str, object] = {"resources": [f"../{wanted.path}"]}
    if patches:
        kustomization["patches"] = [{"path": name} for name in patches]
    files = {"kustomization.yaml": kustomization, **patches}
    return {
        f"{OVERLAY}/{name}": yaml.safe_dump(data, sort_keys=True).encode()
        for name, data in files.items()
    }


def _program(bundle: VerifiedBundle) -> bytes:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    for item in bundle.manifest.items_of(ItemKind.FILE):
        if item.name.startswith(KUSTOMIZE_FILES) and f"linux/{machine}" in item.platforms:
            data = bundle.read(blob_path(item.payload))
            with (
                gzip.GzipFile(fileobj=io.BytesIO(data)) as stream,
                tarfile.open(fileobj=stream, mode="r|") as archive,
            ):
                for member in archive:
                    is_it = member.name.removeprefix("./") == "kustomize"
                    if is_it and member.isreg() and member.size <= MAX_PROGRAM_BYTES:
                        reader = archive.extractfile(member)
                        return reader.read() if reader else b""
    raise InputError("not-in-bundle", f"this bundle has no kustomize for linux/{machine}")


def _run(program: Path, overlay: Path, folder: Path, what: str) -> bytes:
    out = folder / "objects.yaml"
    environment = {"PATH": "/nonexistent", "HOME": str(folder), "LANG": "C.UTF-8"}
    environment |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), _NOWHERE)
    limit = ["/bin/sh", "-c", 'ulimit -f "$1"; shift; exec "$@"', "sh"]
    limit.append(str(MAX_OBJECTS_BYTES // 512))
    try:
        done = subprocess.run(
            [*limit, *_alone(), program, "build", overlay, "--output", out],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=RENDER_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError("cannot-run", f"kustomize cannot render {what}: {error}") from error
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").splitlines()
        shown = [line.replace(str(folder), "") for line in lines if not line.startswith("# Warn")]
        raise IntegrityError("not-rendered", f"kustomize cannot render {what}", problems=shown[-5:])
    return out.read_bytes()


def _alone() -> list[str]:
    """Words that leave a program without a network; none where the system does not allow it."""
    unshare = shutil.which("unshare") if os.geteuid() == 0 else None
    if unshare is None:
        return []
    words = [unshare, "--net", "--"]
    tried = subprocess.run([*words, "/bin/true"], capture_output=True, timeout=10, check=False)
    return words if tried.returncode == 0 else []


def _refuse_missing(bundle: VerifiedBundle, objects: bytes, wanted: SiteRender) -> None:
    source = f"{wanted.component}/{wanted.name}"
    discovery = discover([(source, objects), *_rest_of_component(bundle, wanted)])
    held = {item.reference for item in bundle.manifest.items_of(ItemKind.IMAGE)}
    problems = refusals(discovery, source, held, _noted(bundle))
    if problems:
        raise IntegrityError(
            "image-not-in-bundle",
            f"{wanted.source}: {wanted.path}: the site's values ask for images that the bundle "
            "does not hold, or for what nobody can explain",
            problems=problems,
            hint="a value of the site names another image; list it in workloads.yaml, build again",
        )


def _rest_of_component(bundle: VerifiedBundle, wanted: SiteRender) -> Iterator[tuple[str, bytes]]:
    """What else the component installs: the builder looked at all of it together."""
    for path in bundle.files_below(f"{RENDERED}/{wanted.component}"):
        name = path.rpartition("/")[2].removesuffix(".yaml")
        if name != wanted.name:
            yield f"{wanted.component}/{name}", bundle.read(path)


def _noted(bundle: VerifiedBundle) -> NotedDiscovery:
    """What the builder wrote down; nothing in bundles that were made before it did."""
    if DISCOVERY not in bundle.sums.digests:
        return NotedDiscovery()
    return parse_discovery(bundle.read(DISCOVERY))
