"""The lab's container images: real programs under their real names.

Paths and entry points are those that kubeadm, the charts and the manifests call. Every image is
published as an index, some with a second platform or an attestation beside it, as upstream's are,
so that choosing a platform is really exercised.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from .host import command
from .oci import DOCKER, OCI, Entries, Entry, Layer, Layout, MediaTypes, entries_of_tar
from .recipes import debian, load_recipe, recipe_names

Base = Literal["accounts", "shell", "network"]
Programs = Mapping[str, str]  # path in the image → name of a program that a recipe builds

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ACCOUNTS: Entries = {
    "etc/passwd": Entry(
        "file",
        b"root:x:0:0:root:/root:/bin/sh\n"
        b"nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
        b"nonroot:x:65532:65532:nonroot:/home/nonroot:/bin/false\n",
        0o644,
    ),
    "etc/group": Entry("file", b"root:x:0:\nnogroup:x:65534:\nnonroot:x:65532:\n", 0o644),
    "etc/nsswitch.conf": Entry("file", b"hosts: files dns\n", 0o644),
    "etc/ssl/certs": Entry("folder"),
    "root": Entry("folder", mode=0o700),
    "tmp": Entry("folder", mode=0o1777),
    "run": Entry("folder"),
    "var/lib": Entry("folder"),
}
# Debian's alternatives are made when a package is configured; roots are only extracted.
ALTERNATIVES = {
    **{
        f"usr/sbin/{family}{verb}": "xtables-nft-multi"
        for family in ("iptables", "ip6tables")
        for verb in ("", "-save", "-restore")
    },
    **{f"usr/sbin/ebtables{verb}": "xtables-nft-multi" for verb in ("", "-save", "-restore")},
}
OTHER_PLATFORM = b"A stand-in: the lab builds programs for one platform only.\n"


@dataclass(frozen=True, slots=True)
class Image:
    """One image: layers of programs on top of bases, and how it starts."""

    reference: str
    recipe: str  # whose version and licence it carries
    layers: tuple[Programs, ...] = ()
    bases: tuple[Base, ...] = ("accounts",)
    files: Entries = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    user: str = ""
    arm64: bool = False  # a second platform in the index; a stand-in, never started
    attestation: bool = False
    types: MediaTypes = OCI

    def config(self) -> dict[str, Any]:
        recipe = load_recipe(self.recipe) if self.recipe in recipe_names() else None
        labels = {"org.opencontainers.image.title": self.reference.rpartition(":")[0]}
        if recipe:
            labels["org.opencontainers.image.version"] = recipe.version
            labels["org.opencontainers.image.licenses"] = recipe.license
        config: dict[str, Any] = {"Env": [f"PATH={PATH}"], "WorkingDir": "/", "Labels": labels}
        if self.entrypoint:
            config["Entrypoint"] = list(self.entrypoint)
        if self.command:
            config["Cmd"] = list(self.command)
        if self.user:
            config["User"] = self.user
        return config


def _kubernetes(program: str, *bases: Base, **more: Any) -> Image:
    return Image(
        reference=f"registry.k8s.io/{program}:v{load_recipe('kubernetes').version}",
        recipe="kubernetes",
        layers=({f"usr/local/bin/{program}": program},),
        bases=("accounts", *bases),
        entrypoint=(f"/usr/local/bin/{program}",),
        **more,
    )


def images() -> tuple[Image, ...]:
    """Every image the lab's upstream serves."""
    return (*_control_plane(), *_network(), *_storage())


def _control_plane() -> tuple[Image, ...]:
    etcd = {f"usr/local/bin/{name}": name for name in ("etcd", "etcdctl", "etcdutl")}
    return (
        _kubernetes("kube-apiserver"),
        _kubernetes("kube-controller-manager"),
        _kubernetes("kube-scheduler"),
        _kubernetes("kube-proxy", "network", arm64=True),
        Image(
            "registry.k8s.io/coredns/coredns:v1.12.1",
            "coredns",
            layers=({"coredns": "coredns"},),
            entrypoint=("/coredns",),
            arm64=True,
        ),
        Image("registry.k8s.io/etcd:3.6.5-0", "etcd", layers=(etcd,), types=DOCKER),
        Image(
            "registry.k8s.io/pause:3.10.1",
            "pause",
            layers=({"pause": "pause"},),
            bases=(),
            entrypoint=("/pause",),
            user="65535:65535",
            arm64=True,
            types=DOCKER,
        ),
    )


def _network() -> tuple[Image, ...]:
    return (
        Image(
            "ghcr.io/flannel-io/flannel:v0.28.9",
            "flannel",
            layers=({"opt/bin/flanneld": "flanneld", "opt/bin/install-conf": "install-conf"},),
            bases=("accounts", "shell", "network"),
            entrypoint=("/opt/bin/flanneld",),
            attestation=True,
        ),
        Image(
            "ghcr.io/flannel-io/flannel-cni-plugin:v1.9.1-flannel3",
            "flannel-cni",
            layers=({"flannel": "flannel"},),
            bases=("accounts", "shell"),
            attestation=True,
        ),
    )


def _storage() -> tuple[Image, ...]:
    return (
        Image(
            "docker.io/rancher/local-path-provisioner:v0.0.37",
            "local-path-provisioner",
            layers=({"usr/bin/local-path-provisioner": "local-path-provisioner"},),
            bases=("accounts", "shell"),
            command=("local-path-provisioner",),
        ),
        # The manifest of local-path-provisioner names its helper without a tag.
        _busybox("latest"),
        # What images that are compiled stand on.
        _busybox("1.37.0-musl"),
        # The tag that the chart's values ask for.
        Image(
            "quay.io/minio/mc:RELEASE.2024-11-21T17-21-54Z",
            "mc",
            layers=({"usr/bin/mc": "mc"},),
            bases=("accounts", "shell"),
            entrypoint=("mc",),
        ),
    )


def _busybox(tag: str) -> Image:
    return Image(
        f"docker.io/library/busybox:{tag}",
        "busybox",
        bases=("accounts", "shell"),
        command=("sh",),
        arm64=True,
    )


def recipes_needed() -> frozenset[str]:
    """Recipes whose programs are in some image."""
    return frozenset(image.recipe for image in images()) & frozenset(recipe_names())


def write_layout(folder: Path, programs: Mapping[str, Path]) -> None:
    """Write all images into an OCI layout in `folder`, with full references as names.

    `programs` has the file of each program by its name.
    """
    layout = Layout(folder)
    bases = {name: layout.put_layer(entries) for name, entries in _bases().items()}
    packed: dict[str, Layer] = {}
    other = layout.put_layer({"README": Entry("file", OTHER_PLATFORM, 0o644)})
    for image in images():
        layers = [bases[base] for base in image.bases]
        for wanted in image.layers:
            key = repr(sorted(wanted.items()))
            if key not in packed:
                content = {path: Entry("file", programs[name]) for path, name in wanted.items()}
                packed[key] = layout.put_layer(content)
            layers.append(packed[key])
        if image.files:
            layers.append(layout.put_layer(image.files))
        manifests = [layout.put_manifest(layers, "amd64", image.config(), image.types)]
        if image.arm64:
            manifests.append(layout.put_manifest([other], "arm64", image.config(), image.types))
        if image.attestation:
            manifests.append(layout.put_attestation(manifests[0]))
        layout.tag(image.reference, manifests, image.types)
    layout.finish()


def _bases() -> dict[Base, Entries]:
    return {"accounts": ACCOUNTS, "shell": _shell(), "network": _debian_network()}


def _shell() -> Entries:
    """Debian's static busybox, with a link for each of its applets."""
    found = entries_of_tar(debian.root_tar(debian.SHELL), ["bin/busybox"])
    with tempfile.TemporaryDirectory(prefix="perimeter-lab-") as folder:
        program = Path(folder) / "busybox"
        program.write_bytes(cast(bytes, found["bin/busybox"].content))
        program.chmod(0o755)
        applets = command([str(program), "--list-full"]).stdout.split()
    # a link of busybox to itself would replace it
    links = [path for path in applets if path.rpartition("/")[2] != "busybox"]
    return found | {path: Entry("link", "/bin/busybox") for path in links}


def _debian_network() -> Entries:
    """iptables, nftables, conntrack and their kin, with the libraries they need."""
    found = entries_of_tar(debian.root_tar(debian.NETWORK))
    kept = {path: entry for path, entry in found.items() if debian.wanted(path)}
    return kept | {path: Entry("link", target) for path, target in ALTERNATIVES.items()}
