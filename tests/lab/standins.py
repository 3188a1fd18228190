"""Images that cannot be built here, as stand-ins: to be moved and pulled, never to be run.

A stand-in carries the name of the real image, a label and a file that say what it is, and layers
as real images of its kind have them: a base shared within a family, a big one for what is named
after CUDA or a framework, some small ones. Their sizes are those of real images times ``SCALE``,
since the whole platform is some hundred GiB. The bytes cannot be compressed, as real layers cannot.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from .oci import OCI, Entry, Layer, Layout

LABEL = "io.perimeter.lab.stand-in"
SCALE = 1 / 200
NOTE = b"A stand-in of the lab for {name}: it can be moved and pulled, not run.\n"
MIB = 1 << 20
# Median size in MiB of the layers beyond the base, by what the name says; the first match counts.
# Orders of magnitude of published images: CUDA notebooks 5-8 GiB, web applications 50-200 MiB.
KINDS = (
    (re.compile(r"triton|huggingface|cuda|gpu|gaudi|driver"), 5000.0),
    (re.compile(r"pytorch|tensorflow|torch|trainer|runtime|deepspeed|mlserver"), 2500.0),
    (re.compile(r"jupyter|notebook|codeserver|rstudio|spark|server|ray"), 700.0),
    (re.compile(r"mysql|proxyv2|pilot|grafana|prometheus|seaweed|suggestion"), 180.0),
)
OTHERWISE_MIB = 40.0
BASE_MIB = 30.0


@dataclass(slots=True)
class StandIns:
    """Writes stand-ins into a layout; families share their base layers."""

    layout: Layout
    scale: float = SCALE
    _bases: dict[str, Layer] = field(default_factory=dict)

    def put(self, reference: str) -> str:
        """Store the stand-in of ``reference`` (``name:tag``, or ``name`` alone); its digest."""
        name = reference.partition("@")[0]
        random_of_name = random.Random(name)
        family = name.split(":")[0].rpartition("/")[0]
        if family not in self._bases:
            size = BASE_MIB * random.Random(family).lognormvariate(0, 0.6)
            self._bases[family] = self._layer(random.Random(family), size)
        note = Entry("file", NOTE.replace(b"{name}", name.encode()), 0o644)
        layers = [self._bases[family], self.layout.put_layer({"STAND-IN": note})]
        layers += [self._layer(random_of_name, size) for size in _sizes_mib(name, random_of_name)]
        config = {"Labels": {LABEL: "true", "org.opencontainers.image.title": name}}
        manifest = self.layout.put_manifest(layers, "amd64", config, OCI)
        self.layout.tag(name, [manifest], OCI)
        return str(self.layout.manifests[-1]["digest"])

    def put_all(self, references: Iterable[str]) -> dict[str, str]:
        """Every stand-in's digest by its reference."""
        return {reference: self.put(reference) for reference in sorted(set(references))}

    def _layer(self, source: random.Random, size_mib: float) -> Layer:
        size_bytes = max(64, math.ceil(size_mib * MIB * self.scale))
        data = source.randbytes(size_bytes)
        return self.layout.put_layer({f"content/{data[:8].hex()}": Entry("file", data, 0o644)})


def _sizes_mib(name: str, source: random.Random) -> list[float]:
    """Sizes of an image's own layers: most of it in one, the rest falling off."""
    words = name.rpartition("/")[2]
    median = next((mib for pattern, mib in KINDS if pattern.search(words)), OTHERWISE_MIB)
    total = median * source.lognormvariate(0, 0.5)
    shares = sorted((source.paretovariate(1.2) for _ in range(source.randint(2, 9))), reverse=True)
    return [total * share / sum(shares) for share in shares]
