"""Access to the cluster's API from the jump host: an admin kubeconfig, in memory alone.

It is fetched over SSH from a control plane that answers, and points at that one by its address:
the jump host needs no name service and no load balancer, and one dead control plane does no harm.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3
import yaml

from perimeter_bundle.model import tls
from perimeter_bundle.model.errors import ClusterError, HostError, PerimeterError
from perimeter_installer.run.private import private_folder, write_private
from perimeter_installer.site.host_keys import KnownHosts
from perimeter_installer.site.model import API_PORT, Host, Site
from perimeter_installer.site.ssh import Target, connect

ADMIN_KUBECONFIG = "/etc/kubernetes/admin.conf"
READY_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class KubeAccess:
    """A kubeconfig that works, and the control plane it talks to."""

    kubeconfig: Path
    control_plane: str


@contextmanager
def kube_access(site: Site) -> Iterator[KubeAccess]:
    """Access for the length of the block; the file is gone afterwards.

    Raises ClusterError[no-control-plane] with one line for each control plane.
    """
    with private_folder() as folder:
        yield fetch_kubeconfig(site, folder)


def fetch_kubeconfig(site: Site, folder: Path) -> KubeAccess:
    """Writes ``folder/kubeconfig`` for the first control plane whose API answers.

    Raises ClusterError[no-control-plane].
    """
    known_hosts = KnownHosts.load(site.known_hosts_file)
    problems = []
    for host in site.group("control_plane"):
        try:
            data = rewrite(_read_admin(site, host, known_hosts), f"{host.address}:{API_PORT}")
            _ask_ready(data, host)
        except PerimeterError as error:
            problems.append(f"{host.name}: {error.message}")
            continue
        path = folder / "kubeconfig"
        write_private(path, data)
        return KubeAccess(path, host.name)
    raise ClusterError(
        "no-control-plane",
        "no control plane answers",
        problems=problems or ["site.yaml names none"],
        hint="is the cluster installed, and are its control planes up?",
    )


def rewrite(kubeconfig: bytes, server: str) -> bytes:
    """``kubeconfig`` with ``server`` (host:port) as the address of its cluster. Pure."""
    try:
        document = yaml.safe_load(kubeconfig)
        document["clusters"][0]["cluster"]["server"] = f"https://{server}"
    except (yaml.YAMLError, KeyError, IndexError, TypeError) as error:
        raise ClusterError(
            "bad-kubeconfig",
            f"{ADMIN_KUBECONFIG} is no kubeconfig",
            hint="kubeadm writes it; was the control plane installed by perimeter?",
        ) from error
    return yaml.safe_dump(document, sort_keys=False).encode()


def _read_admin(site: Site, host: Host, known_hosts: KnownHosts) -> bytes:
    with connect(Target.of(host), site.ssh, known_hosts) as connection:
        result = connection.run(["cat", ADMIN_KUBECONFIG], root=True)
    if result.status != 0:
        raise HostError(
            "no-kubeconfig",
            f"it has no {ADMIN_KUBECONFIG}: it is no control plane yet",
            hint="apply makes it one",
        )
    return result.stdout


def _ask_ready(kubeconfig: bytes, host: Host) -> None:
    """Returns when the API server says it is ready; raises ClusterError."""
    document = yaml.safe_load(kubeconfig)
    cluster = document["clusters"][0]["cluster"]
    ca_pem = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = tls.client_context(ca_pem=ca_pem, only_ca=True)
    pool = urllib3.PoolManager(ssl_context=context, retries=False)
    try:
        # /readyz is open to everyone in a cluster made by kubeadm (system:public-info-viewer)
        answer = pool.request("GET", f"{cluster['server']}/readyz", timeout=READY_TIMEOUT_S)
    except urllib3.exceptions.HTTPError as error:
        raise ClusterError("api-silent", f"its API does not answer: {error}") from error
    finally:
        pool.clear()
    if answer.status != 200:
        raise ClusterError("api-not-ready", f"its API answers {answer.status} to /readyz")
