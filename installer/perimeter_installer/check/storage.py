"""A volume outlives the pod that wrote it."""

from __future__ import annotations

import secrets

from perimeter_installer.check.expected import BUSYBOX, Expected
from perimeter_installer.check.recorder import CheckFailed, CheckSkipped, Evidence
from perimeter_installer.check.scratch import Scratch, pod_manifest

CLAIM = "volume"
SIZE = "16Mi"


def check_default_class(scratch: Scratch, expected: Expected) -> Evidence:
    """Claims that name no class get the site's."""
    found = scratch.cluster.default_storage_classes()
    wanted = expected.site.storage.storage_class
    if found != (wanted,):
        raise CheckFailed(
            f"default storage classes: {', '.join(found) or 'none'}; expected {wanted} alone"
        )
    return [f"{wanted} is the default storage class"]


def check_volume(scratch: Scratch, expected: Expected) -> Evidence:
    """What one pod writes into a volume, a later pod reads from it."""
    image = expected.image(BUSYBOX)
    if not image:
        raise CheckSkipped(f"the bundle has no {BUSYBOX} to make pods of")
    cluster, namespace = scratch.cluster, scratch.namespace
    written = secrets.token_hex(32)
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": CLAIM, "namespace": namespace},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": SIZE}},
            },
        }
    )
    scratch.start([pod_manifest(namespace, "writer", image, claim=CLAIM)])
    writer = scratch.pod("writer")
    answer = cluster.execute(
        writer, ["sh", "-c", 'echo "$0" > /data/word && sync && cat /data/word', written]
    )
    if answer.output.strip() != written:
        raise CheckFailed("the volume cannot be written", answer.output + answer.errors)
    volumes = cluster.volumes_of(namespace)
    scratch.remove_pod("writer")
    scratch.start([pod_manifest(namespace, "reader", image, claim=CLAIM)])
    reader = scratch.pod("reader")
    answer = cluster.execute(reader, ["cat", "/data/word"])
    if answer.output.strip() != written:
        raise CheckFailed(
            "a later pod does not find what was written",
            f"expected {written}",
            f"found {(answer.output + answer.errors).strip()[:200] or 'nothing'}",
        )
    scratch.remove_pod("reader")
    return [f"volume {', '.join(volumes)}: written on {writer.node}, read on {reader.node}"]
