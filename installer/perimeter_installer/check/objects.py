"""MinIO stores an object and returns it, byte for byte; also while a node is off.

The administrator's credentials go from the cluster's own Secret into a Secret of the check's
namespace, and from there into a file: no command line and no environment has them.
"""

from __future__ import annotations

import base64
import json
import secrets

from perimeter_bundle.model.errors import ClusterError
from perimeter_installer.check.expected import MINIO_CLIENT, Expected
from perimeter_installer.check.recorder import CheckFailed, CheckSkipped, Evidence
from perimeter_installer.check.scratch import Scratch, pod_manifest

COMPONENT = "minio"
STATEFUL_SET = "minio"
SERVICE_PORT = 9000
ROOT_SECRET = "minio-root"  # noqa: S105 - the name of a Secret, made by role minio
CLIENT = "minio-client"
CREDENTIALS = "minio-credentials"
OBJECT_BYTES = 1024 * 1024
STORE_TIMEOUT_S = 60.0
# $0 is the bucket. The configuration is copied: mc writes beside it.
STORE = f"""
set -eu
umask 077
mkdir -p /tmp/mc
cp /secret/config.json /tmp/mc/config.json
object() {{ mc --config-dir /tmp/mc --quiet --no-color "$@"; }}
head -c {OBJECT_BYTES} /dev/urandom > /tmp/object
object mb "site/$0" > /tmp/log
object cp /tmp/object "site/$0/object" >> /tmp/log
rm -f /tmp/again
object cp "site/$0/object" /tmp/again >> /tmp/log
stored=$(sha256sum < /tmp/object)
returned=$(sha256sum < /tmp/again)
test "$stored" = "$returned"
echo "$returned"
object rb --force "site/$0" >> /tmp/log
"""


def check_servers(scratch: Scratch, expected: Expected) -> Evidence:
    """Every server that can run does; those on nodes that are off are missing and no more."""
    _has_minio(expected)
    namespace = expected.site.minio.namespace
    ready, wanted = scratch.cluster.ready_replicas(namespace, STATEFUL_SET)
    away = sum(
        pod.namespace == namespace and pod.node in expected.nodes_off
        for pod in scratch.cluster.pods(namespace)
    )
    if wanted != expected.site.minio.replicas:
        raise CheckFailed(f"{wanted} servers, site.yaml says {expected.site.minio.replicas}")
    if ready < wanted - away:
        raise CheckFailed(
            f"{ready} of {wanted} servers are ready, {away} are on nodes that are off",
            hint=f"kubectl -n {namespace} get pods, and the logs of those that are not ready",
        )
    return [f"{ready} of {wanted} servers are ready" + (f", {away} off" if away else "")]


def start_client(scratch: Scratch, expected: Expected) -> Evidence:
    """A pod of the bundle's own MinIO client, with the credentials in a file."""
    _has_minio(expected)
    image = expected.image(MINIO_CLIENT)
    if not image:
        raise CheckSkipped(f"the bundle has no {MINIO_CLIENT}")
    namespace = expected.site.minio.namespace
    found = scratch.cluster.secret(namespace, ROOT_SECRET)
    try:
        user, password = (
            base64.b64decode(found[key], validate=True).decode()
            for key in ("rootUser", "rootPassword")
        )
    except (KeyError, ValueError) as error:
        raise ClusterError(
            "bad-secret", f"secret {namespace}/{ROOT_SECRET} does not hold MinIO's administrator"
        ) from error
    host = f"minio.{namespace}.svc.{expected.site.dns.domain}"
    configuration = {
        "version": "10",
        "aliases": {
            "site": {
                "url": f"http://{host}:{SERVICE_PORT}",
                "accessKey": user,
                "secretKey": password,
                "api": "S3v4",
                "path": "auto",
            }
        },
    }
    scratch.cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": CREDENTIALS, "namespace": scratch.namespace},
            "stringData": {"config.json": json.dumps(configuration)},
        }
    )
    scratch.start([pod_manifest(scratch.namespace, CLIENT, image, secret=CREDENTIALS)])
    return [f"{image} runs on {scratch.pod(CLIENT).node}"]


def check_object(scratch: Scratch, expected: Expected) -> Evidence:
    """A new bucket, an object into it, the same bytes out of it, the bucket away."""
    _has_minio(expected)
    client = scratch.pod(CLIENT)
    bucket = f"perimeter-check-{secrets.token_hex(6)}"
    answer = scratch.cluster.execute(client, ["sh", "-c", STORE, bucket], timeout_s=STORE_TIMEOUT_S)
    if answer.status != 0:
        lines = [line for line in (answer.output + answer.errors).splitlines() if line.strip()]
        raise CheckFailed(
            f"an object was not stored and returned (exit status {answer.status})",
            *lines[-10:],
            hint="with too many drives away MinIO refuses to write: are its servers ready?",
        )
    digest = answer.output.split()[0] if answer.output.split() else ""
    off = f" with {', '.join(expected.nodes_off)} off" if expected.nodes_off else ""
    return [f"{OBJECT_BYTES} bytes stored and returned{off}, sha256:{digest}"]


def _has_minio(expected: Expected) -> None:
    if not expected.has(COMPONENT):
        raise CheckSkipped("the release has no object storage")
