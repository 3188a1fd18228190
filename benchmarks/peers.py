"""The tools beside ours, each as its user would call it for many images, and at its best.

crane takes all images into one layout by itself. The others take one image in a call. Several
calls at once into one layout lose entries of its index (oras, regctl: see
tests/integration/test_parallel_layouts.py), so those work one after the other; skopeo shares blobs
between layouts, so it runs twice at once. Pushing is safe: all of them push two images at once.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lab.build import tool
from tests.lab.recipes.toolchain import ensure_packages

from benchmarks.content import TAG, ImageSet
from benchmarks.place import Place
from benchmarks.registry import Registry

AT_ONCE = "2"


@dataclass(frozen=True, slots=True)
class Job:
    """A command, what it needs in its environment, and where its result lies."""

    argv: list[str]
    environment: dict[str, str]


class Peer:
    """One tool; ``collect`` and ``load`` give a command that moves a whole set."""

    name = ""

    def program(self) -> str:
        """The path of the program; builds it on first use."""
        return str(tool(self.name))

    def version(self) -> str:
        """Its version, as it says it."""
        words = [self.program(), *self.version_words()]
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        found = re.search(r"\d+\.\d+\.\d+", done.stdout)
        return found[0] if found else "of unknown version"

    def version_words(self) -> list[str]:
        return ["version"]

    def environment(self, registry: Registry) -> dict[str, str]:
        return {"SSL_CERT_FILE": str(registry.ca_file)} if registry.ca_file else {}

    def collect(self, wanted: ImageSet, registry: Registry, target: Path, place: Place) -> Job:
        raise NotImplementedError

    def load(self, wanted: ImageSet, registry: Registry, views: Path, place: Place) -> Job:
        raise NotImplementedError

    def layouts(self, target: Path) -> tuple[list[Path], Path]:
        """The layouts that ``collect`` made, and the folder of their blobs."""
        return [target], target / "blobs"

    def each(self, wanted: ImageSet, place: Place, at_once: str, words: list[str]) -> list[str]:
        """``words`` for every image, its last name in place of {}."""
        listed = place.work / f"{self.name}.list"
        names = [image.repository.rpartition("/")[2] for image in wanted.images]
        listed.write_text("\n".join(names) + "\n")
        return ["xargs", "-a", str(listed), "-P", at_once, "-I{}", self.program(), *words]


class Crane(Peer):
    name = "crane"

    def collect(self, wanted: ImageSet, registry: Registry, target: Path, place: Place) -> Job:
        references = [f"{registry.address}/{one.repository}:{TAG}" for one in wanted.images]
        words = ["pull", "--format=oci", "--annotate-ref", *_crane_insecure(registry)]
        argv = [self.program(), *words, *references, str(target)]
        return Job(argv, self.environment(registry))

    def load(self, wanted: ImageSet, registry: Registry, views: Path, place: Place) -> Job:
        to = f"{registry.address}/bench/{{}}:{TAG}"
        words = ["push", *_crane_insecure(registry), f"{views}/{{}}", to]
        return Job(self.each(wanted, place, AT_ONCE, words), self.environment(registry))


class Skopeo(Peer):
    name = "skopeo"

    def program(self) -> str:
        if shutil.which("skopeo") is None:
            ensure_packages(["skopeo"])
        return "skopeo"

    def version_words(self) -> list[str]:
        return ["--version"]

    def environment(self, registry: Registry) -> dict[str, str]:
        return {}

    def collect(self, wanted: ImageSet, registry: Registry, target: Path, place: Place) -> Job:
        source = f"docker://{registry.address}/bench/{{}}:{TAG}"
        shared = ["--dest-shared-blob-dir", str(target / "blobs")]
        words = [*self._copy(place), *shared, *_skopeo_tls("src", registry)]
        argv = self.each(wanted, place, AT_ONCE, [*words, source, f"oci:{target}/{{}}:{TAG}"])
        (target / "blobs").mkdir()
        return Job(argv, {})

    def load(self, wanted: ImageSet, registry: Registry, views: Path, place: Place) -> Job:
        to = f"docker://{registry.address}/bench/{{}}:{TAG}"
        words = [*self._copy(place), *_skopeo_tls("dest", registry), f"oci:{views}/{{}}:{TAG}", to]
        return Job(self.each(wanted, place, AT_ONCE, words), {})

    def layouts(self, target: Path) -> tuple[list[Path], Path]:
        return [one for one in target.iterdir() if one.name != "blobs"], target / "blobs"

    def _copy(self, place: Place) -> list[str]:
        policy = place.home / "policy.json"
        policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        return ["--policy", str(policy), "copy", "-q", "--preserve-digests"]


class Regctl(Peer):
    name = "regctl"

    def collect(self, wanted: ImageSet, registry: Registry, target: Path, place: Place) -> Job:
        source = f"{registry.address}/bench/{{}}:{TAG}"
        words = [*_regctl_host(registry), "image", "copy", source, f"ocidir://{target}:{{}}"]
        return Job(self.each(wanted, place, "1", words), self.environment(registry))

    def load(self, wanted: ImageSet, registry: Registry, views: Path, place: Place) -> Job:
        to = f"{registry.address}/bench/{{}}:{TAG}"
        words = [*_regctl_host(registry), "image", "copy", f"ocidir://{views}/{{}}:{TAG}", to]
        return Job(self.each(wanted, place, AT_ONCE, words), self.environment(registry))


class Oras(Peer):
    name = "oras"

    def collect(self, wanted: ImageSet, registry: Registry, target: Path, place: Place) -> Job:
        source = f"{registry.address}/bench/{{}}:{TAG}"
        words = ["cp", "--no-tty", *_oras_tls("from", registry), source]
        words += ["--to-oci-layout", f"{target}:{{}}"]
        return Job(self.each(wanted, place, "1", words), {})

    def load(self, wanted: ImageSet, registry: Registry, views: Path, place: Place) -> Job:
        to = f"{registry.address}/bench/{{}}:{TAG}"
        words = ["cp", "--no-tty", *_oras_tls("to", registry), "--from-oci-layout"]
        argv = self.each(wanted, place, AT_ONCE, [*words, f"{views}/{{}}:{TAG}", to])
        return Job(argv, {})


PEERS: tuple[Peer, ...] = (Crane(), Skopeo(), Regctl(), Oras())


def _crane_insecure(registry: Registry) -> list[str]:
    return [] if registry.ca_file else ["--insecure"]


def _skopeo_tls(side: str, registry: Registry) -> list[str]:
    if registry.ca_file:
        return [f"--{side}-cert-dir", str(registry.ca_file.parent)]
    return [f"--{side}-tls-verify=false"]


def _regctl_host(registry: Registry) -> list[str]:
    return ["--host", f"reg={registry.address},tls={'enabled' if registry.ca_file else 'disabled'}"]


def _oras_tls(side: str, registry: Registry) -> list[str]:
    if registry.ca_file:
        return [f"--{side}-ca-file", str(registry.ca_file)]
    return [f"--{side}-plain-http"]
