"""A small upstream on loopback and a small catalog that names it: an image for two platforms, a
chart, files with and without published checksums, a manifest, and a kubeadm that is a script."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from perimeter_bundle.catalog.load import load_catalog, load_release
from perimeter_bundle.catalog.values import Catalog, Release
from perimeter_bundle.collect.build import BuildRequest, BuildResult, build_bundle
from perimeter_bundle.collect.lock import lock_release
from perimeter_bundle.collect.upstream import Upstream
from perimeter_bundle.format.inventory import VerifiedInventory
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.events import OnEvent, ignore_events
from perimeter_bundle.model.lock import Lock
from perimeter_bundle.registry.client import RegistryClient
from perimeter_bundle.registry.settings import RegistrySettings
from perimeter_bundle.registry.stop import Stop
from tests.lab.pki import Authority, server_context
from tests.support.images import TestImage, index_image, single_image
from tests.support.lying_server import LyingServer
from tests.support.transfers import Recorder

from perimeter_bundle.collect.fetch import FileFetcher  # isort: skip

DATE = (2026, 1, 1, 0, 0, 0)
KUBEADM = "#!/bin/sh\necho {host}/example/control-plane:1.0\n"
POD = "kind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{image: '{image}'}}]}}\n"


@dataclass(slots=True)
class MiniUpstream:
    """``server`` gives everything; ``catalog_root`` names it; ``wheels`` is a folder for pip."""

    server: LyingServer
    folder: Path
    ca_file: Path
    image: TestImage
    control_plane: TestImage
    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    image_host: str = ""

    @property
    def host(self) -> str:
        """Of images: ``127.0.0.1:port``, unless they go by another name and come from a mirror."""
        return self.image_host or self.server.host

    @property
    def catalog_root(self) -> Path:
        return self.folder / "manifests"

    @property
    def requirements(self) -> Path:
        return self.folder / "requirements"

    @property
    def pip_environment(self) -> dict[str, str]:
        """pip finds its wheels in a folder and asks nobody."""
        return {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.folder / "wheels"),
            "PIP_CONFIG_FILE": "/dev/null",
            "HOME": str(self.folder),
        }

    def catalog(self) -> Catalog:
        return load_catalog(self.catalog_root)

    def release(self) -> Release:
        return load_release(self.catalog(), "mini")

    def settings(self) -> RegistrySettings:
        return RegistrySettings(
            ca_file=self.ca_file,
            mirrors=self.mirrors,
            connect_timeout_s=5.0,
            read_timeout_s=2.0,
        )

    def upstream(self, on_event: OnEvent = ignore_events) -> Upstream:
        """A fresh client that does not wait between attempts."""
        stop = Stop()
        transport = Recorder().transport(self.settings(), stop)
        return Upstream(
            images=RegistryClient(self.settings(), on_event, transport=transport),
            files=FileFetcher(self.settings(), on_event, transport=transport),
            stop=stop,
            workers=2,
        )

    def lock(self) -> Lock:
        work = self.folder / "lock-work"
        work.mkdir(exist_ok=True)
        return lock_release(self.release(), self.upstream(), work)

    def build(
        self,
        lock: Lock | bytes,
        out: Path,
        *,
        skip_tag_check: bool = False,
        deep: bool = False,
        more: Mapping[str, str] | None = None,
        build_cache: Path | None = None,
        against: VerifiedInventory | None = None,
    ) -> BuildResult:
        data = lock.to_bytes() if isinstance(lock, Lock) else lock
        request = BuildRequest(
            release=self.release(),
            catalog=self.catalog(),
            lock_bytes=data,
            out=out,
            environment={**self.pip_environment, **(more or {})},
            build_cache=build_cache,
            skip_tag_check=skip_tag_check,
            deep=deep,
            requirements=self.requirements,
            against=against,
        )
        return build_bundle(request, self.upstream(), ignore_events)

    def serve_image(self, repository: str, tag: str, image: TestImage) -> None:
        """Puts an image under a name; a tag that is there already moves."""
        base = f"/v2/{repository}"
        self.server.serve(f"{base}/manifests/{tag}", image.top, Content_Type=image.media_type)
        for digest, data in image.manifests.items():
            media_type = json.loads(data)["mediaType"]
            self.server.serve(f"{base}/manifests/{digest}", data, Content_Type=media_type)
        for digest, data in image.blobs.items():
            self.server.serve(f"{base}/blobs/{digest}", data)

    def serve_chart(self, image: str, more: str = "") -> None:
        """The chart that starts ``image``; ``more`` are lines for its Chart.yaml."""
        chart = _chart(image, more)
        self.server.serve("/charts/shop-1.2.3.tgz", chart)
        digest = hashlib.sha256(chart).hexdigest()
        self.server.serve(
            "/charts/index.yaml",
            f"entries:\n  shop:\n    - version: 1.2.3\n      digest: {digest}\n"
            "      urls: [shop-1.2.3.tgz]\n".encode(),
        )

    def blob_requests(self) -> list[str]:
        """Paths of the layers, charts and files that were asked for with GET, in order."""
        return [
            seen.path
            for seen in self.server.seen
            if seen.method == "GET" and ("/blobs/" in seen.path or seen.path.startswith("/files/"))
        ]


def mini_upstream(
    server: LyingServer, folder: Path, ca_file: Path, *, image_host: str = ""
) -> MiniUpstream:
    """Fills ``server`` and writes catalog, requirements and wheels into ``folder``.

    No registry stores a name with a port: ``image_host`` is for what is loaded into one.
    """
    control_plane = single_image(layers=(b"shared layer", b"control plane"))
    mirrors = {image_host: (server.url,)} if image_host else {}
    mini = MiniUpstream(server, folder, ca_file, index_image(), control_plane, mirrors, image_host)
    mini.serve_image("example/shop", "1.0", mini.image)
    # another index over the same manifests
    mini.serve_image("example/zcopy", "1.0", index_image(attestation=False))
    mini.serve_image("example/control-plane", "1.0", mini.control_plane)
    mini.serve_chart(f"{mini.host}/example/shop:1.0")
    tool = b"#!/bin/sh\necho shopctl\n" * 1000
    server.serve("/files/shopctl-1.0-amd64", tool)
    server.serve(
        "/files/SHA256SUMS", f"{hashlib.sha256(tool).hexdigest()}  shopctl-1.0-amd64\n".encode()
    )
    server.serve("/files/plain.bin", b"no checksum is published" * 100)
    server.serve("/files/kubeadm", KUBEADM.format(host=mini.host).encode())
    pod = POD.format(name="crds", image=f"{mini.host}/example/shop:1.0")
    server.serve("/files/extra.yaml", pod.encode())
    _write_catalog(mini)
    _write_wheels(mini)
    server.seen.clear()
    return mini


def tls_server(folder: Path) -> tuple[LyingServer, Path]:
    """A server on loopback with TLS, and the certificate of its authority."""
    authority = Authority.in_folder(folder)
    certificate, key = folder / "server.crt", folder / "server.key"
    authority.issue(["IP:127.0.0.1"], certificate, key)
    return LyingServer(server_context(certificate, key)), authority.certificate


def _chart(image: str, more: str) -> bytes:
    files = {
        "shop/Chart.yaml": f"apiVersion: v2\nname: shop\nversion: 1.2.3\n{more}",
        "shop/values.yaml": f"image: {image}\nreplicas: 1\n",
        "shop/templates/pod.yaml": POD.format(name="shop", image="{{ .Values.image }}"),
    }
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return gzip.compress(raw.getvalue(), mtime=0)


def _write_catalog(mini: MiniUpstream) -> None:
    url = mini.server.url
    components = {
        "cluster": f"""\
name: cluster
title: Cluster
version: v9.9.9
licence: Apache-2.0
source: https://example.org/cluster
phase: kubernetes
images_from: {{kubeadm: kubeadm}}
files:
  - {{name: kubeadm, url: "{url}/files/kubeadm", platforms: [linux/amd64]}}
""",
        "shop": f"""\
name: shop
title: Shop
version: "1.0"
licence: MIT
source: https://example.org/shop
phase: minio
needs: [cluster]
images:
  - {{reference: "{mini.host}/example/shop:1.0", why: it sells, licence: GPL-2.0-only}}
  - {{reference: "{mini.host}/example/zcopy:1.0", why: it sells too}}
charts:
  - {{name: shop, version: 1.2.3, repository: "{url}/charts", namespace: shop, values: values.yaml}}
files:
  - name: shopctl
    url: "{url}/files/shopctl-{{version}}-{{arch}}"
    checksum_url: "{url}/files/SHA256SUMS"
    platforms: [linux/amd64]
  - {{name: plain, url: "{url}/files/plain.bin", licence: 0BSD}}
manifests:
  - {{name: extra, url: "{url}/files/extra.yaml"}}
""",
    }
    for name, text in components.items():
        folder = mini.catalog_root / name
        folder.mkdir(parents=True)
        (folder / "component.yaml").write_text(text)
    (mini.catalog_root / "shop" / "values.yaml").write_text("replicas: 2\n")
    releases = mini.catalog_root / "releases"
    releases.mkdir()
    (releases / "mini.yaml").write_text(
        "name: mini\nnumber: 3\nplatforms: [linux/amd64]\nminimum_installer: 0.1.0\n"
        'jump_host: {pythons: ["3.11", "3.12"]}\ncomponents: [cluster, shop]\n'
    )


def _write_wheels(mini: MiniUpstream) -> None:
    collections: dict[str, bytes] = {}
    for namespace, name in (("ansible", "posix"), ("kubernetes", "core")):
        base = f"ansible_collections/{namespace}/{name}"
        module = f"# {name}\n".encode()
        files = [
            {
                "name": "plugins/modules/one.py",
                "ftype": "file",
                "chksum_sha256": hashlib.sha256(module).hexdigest(),
            }
        ]
        collections |= {
            f"{base}/MANIFEST.json": json.dumps({"collection_info": {"version": "1.0"}}).encode(),
            f"{base}/FILES.json": json.dumps({"files": files}).encode(),
            f"{base}/plugins/modules/one.py": module,
            f"{base}/tests/unit/test_one.py": b"left out",
        }
    requirements, wheels = mini.requirements, mini.folder / "wheels"
    requirements.mkdir()
    wheels.mkdir()
    packages: dict[str, tuple[str, dict[str, bytes]]] = {
        "install.txt": ("tiny", {"tiny.py": b"x = 1\n"}),
        "pip.txt": ("pip", {"pip.py": b"x = 1\n"}),
        "collections.txt": ("ansible", collections),
    }
    for file, (name, contents) in packages.items():
        data = _wheel(name, contents)
        (wheels / f"{name}-1.0-py3-none-any.whl").write_bytes(data)
        line = f"{name}==1.0 --hash={Digest.of_bytes(data)}\n"
        (requirements / file).write_text(line)


def _wheel(name: str, files: dict[str, bytes]) -> bytes:
    info = f"{name}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nLicense-Expression: MIT\n"
    contents = {
        **files,
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, data in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(data)}\n"
    contents[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for path, data in contents.items():
            archive.writestr(zipfile.ZipInfo(path, DATE), data)
    return raw.getvalue()
