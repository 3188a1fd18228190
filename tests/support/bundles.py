"""Small but complete bundles, signed with a fresh key, in a few milliseconds.

``make_bundle(tmp_path)`` gives what ``perimeter-bundle build`` and ``sign`` would leave: two images
(one a sparse index, one a single Docker manifest), a chart, a file, a Kubernetes manifest, wheels,
a collection, roles and playbooks. The ``edit_*`` arguments change it before it is sealed, so that
the signature holds and only the story is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from perimeter_bundle.format import layout
from perimeter_bundle.format.manifest import (
    BundleComponent,
    BundleItem,
    BundleManifest,
    ItemKind,
    Room,
)
from perimeter_bundle.format.oci import (
    DOCKER_MANIFEST,
    EMPTY_CONFIG,
    EMPTY_CONFIG_TYPE,
    LAYOUT_VERSION,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    ImageManifest,
    OciIndex,
)
from perimeter_bundle.format.seal import seal
from perimeter_bundle.format.signature import (
    PublicKey,
    generate_key,
    load_private_key,
    public_key_path,
    sign_bundle,
    sigstore_bundle,
)
from perimeter_bundle.format.source_tree import FileTree, pack_tree
from perimeter_bundle.format.trust import Trust
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.lock import (
    FileKind,
    Lock,
    LockedChart,
    LockedFile,
    LockedImage,
    LockedSource,
)
from perimeter_bundle.model.platform import LINUX_AMD64, Platform
from perimeter_bundle.model.reference import ImageReference

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
CHART_LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
FILE_LAYER = "application/octet-stream"
LINUX_ARM64 = Platform("linux", "arm64")

MINIO = "quay.io/minio/minio:RELEASE.2025-10-15T17-29-55Z"
BUSYBOX = "docker.io/library/busybox:latest"
TREE: FileTree = {"app/kustomization.yaml": b"resources: []\n"}
WHEEL = f"{layout.WHEELHOUSE}/perimeter-0.1.0-py3-none-any.whl"
PIP_WHEEL = f"{layout.WHEELHOUSE}/pip-25.0-py3-none-any.whl"
COLLECTION = f"{layout.COLLECTIONS}/ansible_collections/example/tools"

# files beside the OCI layout and manifest/: enough of each kind to be damaged by a test
CONTENT: Mapping[str, bytes] = {
    f"{layout.ROLES}/minio/tasks/main.yml": b"---\n[]\n",
    f"{layout.PLAYBOOKS}/site.yml": b"---\n[]\n",
    f"{layout.CATALOG}/minio/component.yaml": b"name: minio\n",
    WHEEL: b"the bytes of a wheel",
    PIP_WHEEL: b"the bytes of another wheel",
    f"{COLLECTION}/MANIFEST.json": b"{}\n",
    f"{COLLECTION}/plugins/modules/ping.py": b"# a module\n",
    layout.INSTALL_REQUIREMENTS: b"# nothing else is needed\n",
    f"{layout.RENDERED}/minio.yaml": b"---\nkind: StatefulSet\n",
}


@dataclass(frozen=True, slots=True)
class SmallBundle:
    """A sealed bundle and the keys that belong to it."""

    root: Path
    key: Path
    trust_folder: Path
    manifest: BundleManifest
    lock: Lock

    @property
    def trust(self) -> Trust:
        """The trust folder, loaded."""
        return Trust.load(self.trust_folder)

    @property
    def public_key(self) -> Path:
        """The public half of ``key``."""
        return public_key_path(self.key)

    def file(self, name: str) -> Path:
        """Where a file of the bundle lies."""
        return self.root / name

    def reseal(self) -> None:
        """Lists and signs the bundle again, as its builder could after a change."""
        seal(self.root)
        sign_bundle(self.root, self.key)

    def forge_sums(self, data: bytes) -> None:
        """Puts ``data`` in place of SHA256SUMS and signs it, whatever it says."""
        private_key = load_private_key(self.key)
        key = PublicKey.parse(self.public_key.read_bytes(), "builder.pub")
        signature = private_key.sign(data, ec.ECDSA(hashes.SHA256()))
        self.file(layout.SUMS).write_bytes(data)
        self.file(layout.SIGNATURES).mkdir(exist_ok=True)
        self.file(layout.signature_path(key.key_id)).write_bytes(signature)
        sigstore = sigstore_bundle(key, data, signature)
        self.file(layout.sigstore_path(key.key_id)).write_bytes(sigstore)


class _Layout:
    """Collects blobs and names; each ``add_*`` gives back a descriptor."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.entries: list[Descriptor] = []
        self.size_bytes = 0

    def blob(self, data: bytes, media_type: str, platform: Platform | None = None) -> Descriptor:
        digest = Digest.of_bytes(data)
        path = self.root / layout.blob_path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(data)
            self.size_bytes += len(data)
        return Descriptor(media_type, digest, len(data), platform)

    def image(
        self, layers: tuple[bytes, ...], built: Platform, *, docker: bool = False
    ) -> Descriptor:
        config = {"architecture": built.architecture, "os": built.os, "rootfs": {"type": "layers"}}
        manifest = ImageManifest(
            config=self.blob(json.dumps(config).encode(), DOCKER_CONFIG if docker else OCI_CONFIG),
            layers=tuple(self.blob(one, DOCKER_LAYER if docker else OCI_LAYER) for one in layers),
            media_type=DOCKER_MANIFEST if docker else OCI_MANIFEST,
        )
        return self.blob(manifest.to_bytes(), manifest.media_type, built)

    def artifact(self, data: bytes, layer_type: str) -> tuple[Descriptor, Digest]:
        layer = self.blob(data, layer_type)
        manifest = ImageManifest(self.blob(EMPTY_CONFIG, EMPTY_CONFIG_TYPE), (layer,))
        return self.blob(manifest.to_bytes(), OCI_MANIFEST), layer.digest

    def name(self, entry: Descriptor, reference: str) -> None:
        named = {layout.REF_NAME_ANNOTATION: reference}
        self.entries.append(
            Descriptor(entry.media_type, entry.digest, entry.size_bytes, annotations=named)
        )


def make_key(folder: Path, name: str = "builder") -> Path:
    """A fresh key pair ``<name>.key`` and ``<name>.pub`` in ``folder``; the private one."""
    path = folder / f"{name}.key"
    generate_key(path)
    return path


def make_bundle(
    folder: Path,
    *,
    release: str = "2026.11",
    number: int = 1,
    minimum_installer: str = "0.1.0",
    built_for: Platform = LINUX_AMD64,
    tree: FileTree = TREE,
    kustomize: bytes = b"",
    extra_files: Mapping[str, bytes] | None = None,
    edit_lock: Callable[[Lock], Lock] = lambda lock: lock,
    edit_manifest: Callable[[BundleManifest], BundleManifest] = lambda manifest: manifest,
    edit_index: Callable[[OciIndex], OciIndex] = lambda index: index,
    edit_tree: Callable[[Path], object] = lambda root: None,
    key: Path | None = None,
    sign: bool = True,
) -> SmallBundle:
    """A complete bundle in ``folder/<release>``, its key in ``folder/keys``, and trust in it.

    ``built_for`` is what the first image really holds; it is always locked as linux/amd64.
    ``tree`` is its source "trees"; ``kustomize`` is the program's archive, carried when given.
    """
    root, trust_folder = folder / release, folder / "trust"
    root.mkdir(parents=True)
    parts = _Layout(root)
    lock, manifest = _fill(parts, release, number, minimum_installer, built_for, tree, kustomize)
    lock, manifest = edit_lock(lock), edit_manifest(manifest)
    index = edit_index(OciIndex(tuple(sorted(parts.entries, key=lambda one: one.reference))))
    files = {
        layout.OCI_LAYOUT: LAYOUT_VERSION,
        layout.INDEX: index.to_bytes(),
        layout.BUNDLE_MANIFEST: manifest.to_bytes(),
        layout.LOCK: lock.to_bytes(),
        **CONTENT,
        **(extra_files or {}),
    }
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    edit_tree(root)
    seal(root)
    key = key or make_key(folder / "keys")
    if not trust_folder.exists():
        trust_folder.mkdir()
        (trust_folder / "builder.pub").write_bytes(public_key_path(key).read_bytes())
    if sign:
        sign_bundle(root, key)
    return SmallBundle(root, key, trust_folder, manifest, lock)


def _fill(
    parts: _Layout,
    release: str,
    number: int,
    minimum_installer: str,
    built_for: Platform,
    tree: FileTree,
    kustomize: bytes,
) -> tuple[Lock, BundleManifest]:
    minio, minio_amd64 = _add_sparse_index(parts, built_for)
    busybox = parts.image((b"layer of busybox",), LINUX_AMD64, docker=True)
    parts.name(busybox, BUSYBOX)
    images = (
        _locked_image(MINIO, minio, minio_amd64.digest, "minio"),
        _locked_image(BUSYBOX, busybox, busybox.digest, "local-path-provisioner"),
    )
    chart_bytes, kubeadm_bytes, objects = b"a chart, packed", b"\x7fELF kubeadm", b"kind: List\n"
    chart = LockedChart(
        *("minio", "5.4.0", "minio", "https://charts.min.io"),
        "https://charts.min.io/helm-releases/minio-5.4.0.tgz",
        *(Digest.of_bytes(chart_bytes), len(chart_bytes)),
    )
    kubeadm = LockedFile(
        *("kubeadm", "v1.34.4", "kubernetes", FileKind.FILE, LINUX_AMD64),
        "https://dl.k8s.io/v1.34.4/bin/linux/amd64/kubeadm",
        *(Digest.of_bytes(kubeadm_bytes), len(kubeadm_bytes)),
    )
    storage = LockedFile(
        *("local-path-storage.yaml", "v0.0.37", "local-path-provisioner", FileKind.MANIFEST, None),
        "https://raw.githubusercontent.com/rancher/local-path-provisioner/v0.0.37/x.yaml",
        *(Digest.of_bytes(objects), len(objects)),
    )
    program = LockedFile(
        *("kustomize", "v5.0.0", "kustomize", FileKind.FILE, LINUX_AMD64),
        "https://files.example/kustomize_v5.0.0_linux_amd64.tar.gz",
        *(Digest.of_bytes(kustomize), len(kustomize)),
    )
    tree_bytes = pack_tree(tree)
    source = LockedSource(
        *("trees", "1.0", "https://git.example/org/trees", "0123456789abcdef" * 2 + "01234567"),
        *(Digest.of_bytes(tree_bytes), len(tree_bytes), ()),
    )
    files = (kubeadm, storage, program) if kustomize else (kubeadm, storage)
    lock = Lock(release, number, (LINUX_AMD64,), images, (chart,), files, sources=(source,))
    items = [_image_item(image) for image in images]
    artifacts: list[tuple[ItemKind, LockedChart | LockedFile | LockedSource, bytes, str, str]] = [
        (ItemKind.CHART, chart, chart_bytes, CHART_LAYER, chart.component),
        (ItemKind.FILE, kubeadm, kubeadm_bytes, FILE_LAYER, kubeadm.component),
        (ItemKind.MANIFEST, storage, objects, FILE_LAYER, storage.component),
        (ItemKind.SOURCE, source, tree_bytes, FILE_LAYER, "minio"),
        *([(ItemKind.FILE, program, kustomize, FILE_LAYER, "minio")] if kustomize else []),
    ]
    for kind, pin, data, layer, component in artifacts:
        entry, payload = parts.artifact(data, layer)
        parts.name(entry, str(pin.reference))
        items.append(
            BundleItem(
                *(kind, str(pin.reference), entry.digest, payload, entry.size_bytes + len(data)),
                platforms=("linux/amd64",) if pin is program else (),
                source=pin.url,
                licence="Apache-2.0",
                component=component,
                why=("named by the catalog",),
                version=pin.version,
            )
        )
    for kind, name, described in (
        (ItemKind.WHEEL, WHEEL, CONTENT[WHEEL]),
        (ItemKind.COLLECTION, COLLECTION, CONTENT[f"{COLLECTION}/MANIFEST.json"]),
    ):
        digest = Digest.of_bytes(described)
        items.append(
            BundleItem(
                *(kind, name, digest, digest, len(described), ()),
                *("", "Apache-2.0", "", ("runs the installation",), "0.1.0"),
            )
        )
    components = tuple(
        BundleComponent(name, version, "Apache-2.0", f"https://example.org/{name}", phase)
        for name, version, phase in (
            ("kubernetes", "v1.34.4", "kubernetes"),
            ("local-path-provisioner", "v0.0.37", "storage"),
            ("minio", "5.4.0", "platform"),
        )
    )
    room = Room(parts.size_bytes, parts.size_bytes, parts.size_bytes)
    return lock, BundleManifest(release, number, minimum_installer, components, tuple(items), room)


def _add_sparse_index(parts: _Layout, built_for: Platform) -> tuple[Descriptor, Descriptor]:
    """An index of two platforms of which only linux/amd64 was collected."""
    amd64 = parts.image((b"layer one of minio", b"layer two of minio"), built_for)
    amd64 = Descriptor(amd64.media_type, amd64.digest, amd64.size_bytes, LINUX_AMD64)
    absent = Digest.of_bytes(b"the manifest for arm64, which was not collected")
    arm64 = Descriptor(OCI_MANIFEST, absent, 1234, LINUX_ARM64)
    index = parts.blob(OciIndex((arm64, amd64)).to_bytes(), OCI_INDEX)
    parts.name(index, MINIO)
    return index, amd64


def _locked_image(name: str, entry: Descriptor, amd64: Digest, component: str) -> LockedImage:
    return LockedImage(
        *(ImageReference.parse(name), entry.digest, entry.media_type, {LINUX_AMD64: amd64}),
        *(entry.size_bytes, (component,), ("StatefulSet/minio",)),
    )


def _image_item(image: LockedImage) -> BundleItem:
    assert image.digest is not None
    return BundleItem(
        *(ItemKind.IMAGE, str(image.reference), image.digest, image.manifests[LINUX_AMD64]),
        *(image.size_bytes, ("linux/amd64",), str(image.reference), "AGPL-3.0-only"),
        *(image.components[0], image.why, image.reference.tag),
    )
