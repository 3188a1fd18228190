"""Objects applied to a real API server (kube-apiserver and etcd, no nodes)."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.api_server import ApiServer

from perimeter_bundle.model.errors import ClusterError
from perimeter_installer.run.cluster import ApiCluster, api_cluster
from perimeter_installer.run.kube_objects import Object, dig, read_objects, with_overlays
from perimeter_installer.run.manifest_apply import ApplyRequest, ApplyResult, apply_objects

pytestmark = pytest.mark.filterwarnings("ignore:HTTPResponse.getheaders:DeprecationWarning")

CONFIGURATION = b"""\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: team}
data: {colour: green}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: worker, namespace: team}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: team}
rules:
  - {apiGroups: [""], resources: [pods], verbs: [get]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: server, namespace: team}
spec:
  replicas: 2
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec:
      containers:
        - {name: server, image: "quay.io/test/server:1", resources: {limits: {memory: 1024Mi}}}
---
apiVersion: v1
kind: Namespace
metadata: {name: team}
"""
DEFINITION = b"""\
apiVersion: test.perimeter.internal/v1
kind: Widget
metadata: {name: first}
spec: {size: 3}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.test.perimeter.internal}
spec:
  group: test.perimeter.internal
  scope: Cluster
  names: {kind: Widget, plural: widgets, singular: widget}
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties: {spec: {type: object, properties: {size: {type: integer}}}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with ApiServer(tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture
def cluster(server: ApiServer) -> Iterator[ApiCluster]:
    with api_cluster(server.kubeconfig) as opened:
        yield opened


def objects(data: bytes, namespace: str) -> tuple[Object, ...]:
    """The objects, moved to a namespace of the test's own."""
    return read_objects([data.replace(b"team", namespace.encode())], "test")


def apply(cluster: ApiCluster, found: tuple[Object, ...], check: bool = False) -> ApplyResult:
    return apply_objects(cluster, ApplyRequest(found, wait=False, timeout_s=5, check=check))


def test_a_second_apply_changes_nothing(cluster: ApiCluster) -> None:
    found = objects(CONFIGURATION, "twice")
    first = apply(cluster, found)
    assert first.created == [
        "Namespace/twice",
        "ServiceAccount/twice/worker",
        "Role/twice/reader",
        "ConfigMap/twice/settings",
        "Deployment/twice/server",
    ]
    second = apply(cluster, found)
    assert not second.changed
    assert sorted(second.unchanged) == sorted(first.created)


def test_only_what_differs_is_configured(cluster: ApiCluster) -> None:
    apply(cluster, objects(CONFIGURATION, "differs"))
    changed = objects(CONFIGURATION.replace(b"green", b"blue"), "differs")
    result = apply(cluster, changed)
    assert result.configured == ["ConfigMap/differs/settings"]
    live = cluster.get(changed[0])
    assert dig(live, "data", "colour") == "blue"


def test_a_field_somebody_changed_by_hand_is_taken_back(cluster: ApiCluster) -> None:
    found = objects(CONFIGURATION, "byhand")
    apply(cluster, found)
    by_hand = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": "byhand"},
        "data": {"colour": "red", "extra": "kept"},
    }
    cluster._resource(by_hand).patch(
        body=by_hand,
        name="settings",
        namespace="byhand",
        content_type="application/merge-patch+json",
    )
    assert apply(cluster, found).configured == ["ConfigMap/byhand/settings"]
    assert dig(cluster.get(by_hand), "data") == {"colour": "green", "extra": "kept"}


def test_check_says_what_would_happen_and_changes_nothing(cluster: ApiCluster) -> None:
    found = objects(CONFIGURATION, "dry") + read_objects([DEFINITION], "test")
    result = apply(cluster, found, check=True)
    assert len(result.created) == len(found)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "dry"}}
    assert cluster.get(namespace) is None

    apply(cluster, objects(CONFIGURATION, "dry"))
    assert not apply(cluster, objects(CONFIGURATION, "dry"), check=True).changed
    other = objects(CONFIGURATION.replace(b"replicas: 2", b"replicas: 3"), "dry")
    assert apply(cluster, other, check=True).configured == ["Deployment/dry/server"]
    assert dig(cluster.get(other[3]), "spec", "replicas") == 2


def test_a_definition_is_established_before_its_objects_come(cluster: ApiCluster) -> None:
    found = read_objects([DEFINITION], "test")
    assert apply(cluster, found).created == [
        "CustomResourceDefinition/widgets.test.perimeter.internal",
        "Widget/first",
    ]
    assert not apply(cluster, found).changed


def test_overlays_are_merged_over_what_upstream_wrote(cluster: ApiCluster) -> None:
    overlay = read_objects(
        [
            b"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: server, namespace: over}\n"
            b"spec:\n  template:\n    spec:\n      containers:\n"
            b"        - {name: server, env: [{name: A, value: b}]}\n"
        ],
        "overlay",
    )
    found = with_overlays(objects(CONFIGURATION, "over"), overlay)
    apply(cluster, found)
    live = cluster.get(overlay[0])
    containers = dig(live, "spec", "template", "spec", "containers")
    assert isinstance(containers, list)
    assert containers[0]["image"] == "quay.io/test/server:1"
    assert containers[0]["env"] == [{"name": "A", "value": "b"}]
    assert not apply(cluster, found).changed


def test_a_workload_that_does_not_get_ready_is_named_with_the_reason(cluster: ApiCluster) -> None:
    request = ApplyRequest(objects(CONFIGURATION, "stuck"), timeout_s=1.0)
    with pytest.raises(ClusterError, match="Deployment/stuck/server did not get ready") as raised:
        apply_objects(cluster, request)
    assert raised.value.code == "not-ready"
    assert "it is not looked at yet" in raised.value.message


def test_waits_until_a_workload_is_rolled_out(cluster: ApiCluster) -> None:
    found = objects(CONFIGURATION, "rolled")
    done = threading.Thread(target=_play_controller, args=(cluster, found[3]))
    done.start()
    result = apply_objects(cluster, ApplyRequest(found, timeout_s=30.0))
    done.join()
    assert "Deployment/rolled/server" in result.created


def test_a_webhook_comes_only_when_something_answers_behind_its_service(
    cluster: ApiCluster,
) -> None:
    found = read_objects(
        [
            b"""\
apiVersion: v1
kind: Namespace
metadata: {name: hooks}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: hooks.perimeter.internal}
webhooks:
  - name: hooks.perimeter.internal
    clientConfig: {service: {name: hook, namespace: hooks}}
    rules: []
    sideEffects: None
    admissionReviewVersions: [v1]
---
apiVersion: v1
kind: Service
metadata: {name: hook, namespace: hooks}
spec: {selector: {app: hook}, ports: [{port: 443}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: hook, namespace: hooks}
spec:
  replicas: 0
  selector: {matchLabels: {app: hook}}
  template:
    metadata: {labels: {app: hook}}
    spec: {containers: [{name: hook, image: "quay.io/test/hook:1"}]}
"""
        ],
        "test",
    )
    controller = threading.Thread(target=_play_controller, args=(cluster, found[3]))
    controller.start()
    with pytest.raises(ClusterError, match="Service/hooks/hook did not get ready") as raised:
        apply_objects(cluster, ApplyRequest(found, timeout_s=5.0))
    controller.join()
    assert "nobody answers" in raised.value.message
    assert cluster.get(found[1]) is None, "the webhook would have blocked the cluster"


def test_a_refusal_of_the_api_server_is_shown(cluster: ApiCluster) -> None:
    wrong = objects(CONFIGURATION.replace(b"replicas: 2", b"replicas: many"), "wrong")
    with pytest.raises(ClusterError, match="did not let us apply Deployment/wrong") as raised:
        apply(cluster, wrong)
    assert raised.value.code == "api-refused"
    assert "replicas" in raised.value.context["answer"]


def test_nobody_at_the_address_is_said(tmp_path: Path, server: ApiServer) -> None:
    text = server.kubeconfig.read_text()
    port = text.split("127.0.0.1:")[1].split("\n")[0]
    (tmp_path / "kubeconfig").write_text(text.replace(f":{port}", ":1"))
    with (
        pytest.raises(ClusterError, match="the API server does not answer") as raised,
        api_cluster(tmp_path / "kubeconfig"),
    ):
        pass
    assert raised.value.code == "api-silent"


def test_the_ansible_module_applies_and_reports(server: ApiServer, tmp_path: Path) -> None:
    (tmp_path / "objects.yaml").write_bytes(CONFIGURATION.replace(b"team", b"module"))
    arguments = {
        "kubeconfig": str(server.kubeconfig),
        "files": [str(tmp_path / "objects.yaml")],
        "wait": False,
        "_ansible_remote_tmp": str(tmp_path),
        "_ansible_keep_remote_files": False,
    }
    first = _module(arguments)
    assert first["changed"] and "Deployment/module/server" in first["created"]
    assert not _module({**arguments, "_ansible_check_mode": True})["changed"]
    refused = _module(
        {
            **arguments,
            "overlays": [{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "none"}}],
        }
    )
    assert refused["failed"]
    assert "an overlay is for Secret/none" in refused["msg"]


def _module(arguments: dict[str, object]) -> dict[str, Any]:
    module = Path(__file__).parents[2] / "playbooks" / "library" / "manifest_apply.py"
    wrapper = (
        "import json, runpy, sys\n"
        f"sys.path[:0] = {sys.path!r}\n"
        "import ansible.module_utils.basic as basic\n"
        "from ansible.module_utils.testing import patch_module_args\n"
        f"with patch_module_args(json.loads({json.dumps(json.dumps(arguments))})):\n"
        f"    runpy.run_path({str(module)!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", wrapper], capture_output=True, check=False)
    lines = done.stdout.decode().strip().splitlines()
    assert lines, done.stderr.decode()
    answer = json.loads(lines[-1])
    assert isinstance(answer, dict)
    return answer


def _play_controller(cluster: ApiCluster, deployment: Object) -> None:
    """Reports the deployment as rolled out, as its controller would."""
    for _ in range(100):
        live = cluster.get(deployment)
        if live is not None:
            break
        time.sleep(0.1)
    wanted = dig(live, "spec", "replicas")
    status = {
        "observedGeneration": dig(live, "metadata", "generation"),
        "replicas": wanted,
        "updatedReplicas": wanted,
        "readyReplicas": wanted,
        "availableReplicas": wanted,
    }
    metadata = dig(deployment, "metadata")
    assert isinstance(metadata, dict)
    cluster._resource(deployment).status.patch(
        body={"status": status},
        name=metadata["name"],
        namespace=metadata["namespace"],
        content_type="application/merge-patch+json",
    )
