"""A point release as a delta on what a site's registry holds: real builds, a real registry."""

from __future__ import annotations

import random

from tests.support.distribution import Distribution
from tests.support.images import single_image
from tests.support.mini_upstream import mini_upstream, tls_server
from tests.support.sites import make_site

from benchmarks.content import Shape, layer_sizes
from benchmarks.rows import at_most
from benchmarks.tasks import Bench
from perimeter_bundle.format.inventory import open_inventory, write_inventory
from perimeter_bundle.format.signature import generate_key, sign_bundle
from perimeter_bundle.format.trust import Trust
from perimeter_bundle.format.verify import open_bundle
from perimeter_bundle.model.events import ignore_events
from perimeter_installer.cli.inventory_command import take
from perimeter_installer.load.endpoint import RegistryEndpoint
from perimeter_installer.load.load import fill_replicas

LAYERS = Shape("delta", 1, 40, 60_000_000, 1000, 16_000_000)
CHANGED = 4  # every tenth layer, none of the two largest: base layers stay


def delta(bench: Bench) -> None:
    """How many bytes of a release travel when a tenth of its layers changed."""
    source = random.Random(LAYERS.seed)
    sizes = layer_sizes(LAYERS)
    layers = [source.randbytes(size) for size in sizes]
    later = list(layers)
    for index in range(5, len(sizes) - 2, len(sizes) // CHANGED):
        later[index] = source.randbytes(sizes[index])
    folder = bench.place.fresh("delta")
    server, ca_file = tls_server(folder / "tls")
    for name in ("builder", "site"):
        generate_key(folder / f"{name}.key")
    trust = Trust.load(folder / "builder.pub")
    with server:
        mini = mini_upstream(server, folder / "mini", ca_file, image_host="quay.io")
        mini.serve_image("example/shop", "1.0", single_image(layers=layers))
        mini.build(mini.lock(), folder / "first")
        sign_bundle(folder / "first", folder / "builder.key")
        first = open_bundle(folder / "first", trust)
        with Distribution(folder / "n1") as one:
            ca_pem = one.ca.certificate
            replicas = (RegistryEndpoint.parse("n1", one.url, ca_pem=ca_pem),)
            fill_replicas(first, replicas)
            held = take(make_site(folder / "site"), replicas, (), deep=True, on_event=ignore_events)
        write_inventory(held, folder / "inventory.json", folder / "site.key")
        inventory = open_inventory(folder / "inventory.json", Trust.load(folder / "site.pub"))
        mini.serve_image("example/shop", "1.0", single_image(layers=later))
        lock = mini.lock()
        mini.build(lock, folder / "whole")
        mini.build(lock, folder / "delta", against=inventory)
    opened = []
    for name in ("whole", "delta"):
        sign_bundle(folder / name, folder / "builder.key")
        opened.append(open_bundle(folder / name, trust))
    whole, part = (sum(bundle.sizes.values()) for bundle in opened)
    base = opened[1].base
    left_out = f"{len(base.sizes)} blobs left out and listed" if base else "nothing left out"
    note = f"over HTTPS; {part / 1e6:.1f} of {whole / 1e6:.1f} MB; {left_out}"
    bench.keep(
        "delta",
        [],
        [at_most("point update as delta", part / whole, "of the bytes", 0.2, note=note)],
    )
