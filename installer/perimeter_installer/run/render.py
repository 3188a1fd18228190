"""A source of the bundle rendered again with the site's values, by the bundle's own kustomize.

1. The source's archive and kustomize's archive are hashed once more when they are read.
2. The tree is unpacked as strictly as it was packed; an overlay with the site's patches is added.
3. kustomize runs without a network of its own where the system allows it, with no git in reach.
4. An image of a pod that the bundle does not hold is refused: the cluster could never pull it.
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

from perimeter_bundle.format.layout import blob_path
from perimeter_bundle.format.manifest import BundleItem, ItemKind
from perimeter_bundle.format.source_tree import unpack_tree
from perimeter_bundle.format.strict_json import MIB
from perimeter_bundle.format.verify import VerifiedBundle
from perimeter_bundle.model.errors import HostError, InputError, IntegrityError, PerimeterError
from perimeter_bundle.model.reference import INTERNAL_HOST, ImageReference

KUSTOMIZE_FILES = f"{INTERNAL_HOST}/files/kustomize/kustomize:"
OVERLAY = "perimeter-site"  # folder of the overlay in the unpacked tree
RENDER_TIMEOUT_S = 300.0
MAX_OBJECTS_BYTES = 64 * MIB
MAX_PROGRAM_BYTES = 256 * MIB
_NOWHERE = "http://127.0.0.1:9"
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")


@dataclass(frozen=True, slots=True)
class SiteRender:
    """What is rendered: a source by name, a kustomization in it, and the site's patches."""

    source: str
    path: str
    patches: Sequence[Mapping[str, object]] = ()  # whole objects, merged over what is rendered


def render_for_site(bundle: VerifiedBundle, wanted: SiteRender) -> bytes:
    """The objects with the site's values; raises when one needs an image the bundle lacks.

    Raises InputError[not-in-bundle], IntegrityError[bad-source], [not-rendered],
    [image-not-in-bundle], HostError[cannot-run].
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


def missing_images(bundle: VerifiedBundle, objects: bytes) -> tuple[str, ...]:
    """Images in pod specifications that the bundle does not hold, sorted."""
    held = {item.reference for item in bundle.manifest.items_of(ItemKind.IMAGE)}
    names = {reference.without_digest() for reference in held} | held
    missing = set()
    for document in yaml.load_all(objects, Loader=yaml.CSafeLoader):
        for text in _pod_images(document):
            try:
                reference = ImageReference.parse(text)
            except PerimeterError:
                missing.add(text)
                continue
            if reference not in names:
                missing.add(str(reference))
    return tuple(sorted(missing))


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
    missing = missing_images(bundle, objects)
    if missing:
        raise IntegrityError(
            "image-not-in-bundle",
            f"{wanted.source}: {wanted.path}: images are needed that the bundle does not hold",
            problems=missing,
            hint="a value of the site names another image; list it in workloads.yaml, build again",
        )


def _pod_images(root: object) -> Iterator[str]:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            for key, value in node.items():
                waiting.append(value)
                for one in value if key in _CONTAINERS and isinstance(value, list) else ():
                    if isinstance(one, dict) and isinstance(one.get("image"), str):
                        yield one["image"]
