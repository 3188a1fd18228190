"""images.lock of this repository: every name the default release asks for, resolved by nobody yet.

``python -m tests.support.default_lock KUBEADM`` writes it; KUBEADM is a kubeadm of the release's
version. Nothing is fetched: upstream's files are those of ../shared/upstream.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from perimeter_bundle.catalog.load import load_release
from perimeter_bundle.collect.lock import unresolved_lock
from perimeter_bundle.collect.site_choice import plain_references
from perimeter_bundle.collect.wanted import WantedImage, unresolved_image, wanted_images
from perimeter_bundle.model.lock import Lock
from perimeter_bundle.model.reference import ImageReference
from tests.support.stack import DEFAULT_RELEASE, PAGE
from tests.support.upstream_renders import catalog, discovered

LOCK_FILE = PAGE.parents[1] / "images.lock"


def default_lock(from_kubeadm: Sequence[ImageReference]) -> Lock:
    """Images listed by the catalog, found by discovery and asked for by kubeadm, with the reasons.

    Images whose tag depends on the hosts of a site are left out: ``lock`` wants its facts for them.
    """
    release = load_release(catalog(), DEFAULT_RELEASE)
    (kubernetes,) = (one.name for one in release.components if one.kubeadm_file)
    listed = wanted_images(release, [(kubernetes, reference) for reference in from_kubeadm])
    wanted = {one.reference: one for one in listed}
    for component in release.components:
        for found in discovered(component.name).images:
            first = found.evidence[0]
            why = f"{component.name}: {first.rule}: {first.place}"
            known = wanted.get(found.reference, WantedImage(found.reference, (), ()))
            wanted[found.reference] = replace(
                known,
                components=tuple(sorted({*known.components, component.name})),
                why=tuple(sorted({*known.why, why})),
            )
    for reference in plain_references(release):
        wanted.pop(reference, None)
    images = (wanted[reference] for reference in sorted(wanted, key=str))
    return replace(unresolved_lock(release), images=tuple(map(unresolved_image, images)))


def kubeadm_list(program: Path, version: str) -> tuple[ImageReference, ...]:
    """What that kubeadm asks for."""
    argv = [str(program), "config", "images", "list", "--kubernetes-version", version]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60)
    return tuple(ImageReference.parse(line) for line in done.stdout.split())


def main() -> None:
    """Writes the lock."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.default_lock")
    parser.add_argument("kubeadm", type=Path)
    options = parser.parse_args()
    version = catalog().components["kubernetes"].version
    lock = default_lock(kubeadm_list(options.kubeadm, version))
    LOCK_FILE.write_bytes(lock.to_bytes())


if __name__ == "__main__":
    main()
