"""The few questions perimeter asks an API server, with plain objects in and out.

A thin rim around the dynamic client: every call has a timeout, every exception becomes a
ClusterError, and nothing of the client's own types goes further.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import urllib3

from perimeter_bundle.model.errors import ClusterError
from perimeter_installer.run.kube_objects import Object, ServiceName, identity, text

FIELD_MANAGER = "perimeter"
CALL_TIMEOUT_S = 60.0
# What a proxy in the API server answers when nobody listens behind a service.
_NOBODY_ANSWERS = frozenset({502, 503, 504})


class Cluster(Protocol):
    """What ``manifest_apply`` needs; the real one is ``ApiCluster``."""

    def is_known(self, obj: Object) -> bool:
        """Whether the API server serves this kind."""

    def is_namespaced(self, obj: Object) -> bool:
        """Whether objects of this kind lie in a namespace."""

    def get(self, obj: Object) -> Object | None:
        """The live object of the same kind, namespace and name."""

    def apply(self, obj: Object, *, dry_run: bool) -> Object:
        """The object after a server-side apply."""

    def pods(self, namespace: str, labels: Mapping[str, str]) -> tuple[Object, ...]:
        """Pods that carry all ``labels``."""

    def answers(self, service: ServiceName) -> bool:
        """Whether something behind the service answers HTTP over TLS."""

    def refresh(self) -> None:
        """Forgets which kinds there are."""


class ApiCluster:
    """A Cluster behind a kubeconfig; made by ``api_cluster``."""

    def __init__(self, dynamic: Any, api_client: Any) -> None:
        self._dynamic = dynamic
        self._api_client = api_client

    def is_known(self, obj: Object) -> bool:
        """Whether the API server serves this kind."""
        from kubernetes.dynamic.exceptions import ResourceNotFoundError

        try:
            self._resource(obj)
        except ResourceNotFoundError:
            return False
        return True

    def is_namespaced(self, obj: Object) -> bool:
        """Whether objects of this kind lie in a namespace."""
        with _errors(f"find out about {text(obj, 'kind')}"):
            return bool(self._resource(obj).namespaced)

    def get(self, obj: Object) -> Object | None:
        """The live object of the same kind, namespace and name; None when there is none."""
        from kubernetes.dynamic.exceptions import NotFoundError

        with _errors(f"read {identity(obj)}"):
            try:
                return _plain(
                    self._resource(obj).get(**_place(obj), _request_timeout=CALL_TIMEOUT_S)
                )
            except NotFoundError:
                return None

    def apply(self, obj: Object, *, dry_run: bool) -> Object:
        """The object after a server-side apply; fields that others own are taken over."""
        with _errors(f"apply {identity(obj)}"):
            options = {"dry_run": "All"} if dry_run else {}
            return _plain(
                self._resource(obj).server_side_apply(
                    body=dict(obj),
                    **_place(obj),
                    field_manager=FIELD_MANAGER,
                    force_conflicts=True,
                    _request_timeout=CALL_TIMEOUT_S,
                    **options,
                )
            )

    def list(self, api_version: str, kind: str, **options: str) -> tuple[Object, ...]:
        """All objects of a kind; options such as ``namespace`` and ``label_selector``."""
        with _errors(f"list {kind}"):
            resource = self._resource({"apiVersion": api_version, "kind": kind})
            answer = resource.get(**options, _request_timeout=CALL_TIMEOUT_S).to_dict()
            return tuple(
                {"apiVersion": api_version, "kind": kind, **one} for one in answer["items"]
            )

    def pods(self, namespace: str, labels: Mapping[str, str]) -> tuple[Object, ...]:
        """Pods that carry all ``labels``."""
        selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        return self.list("v1", "Pod", namespace=namespace, label_selector=selector)

    def answers(self, service: ServiceName) -> bool:
        """Whether something behind the service answers, asked by way of the API server."""
        from kubernetes.client.exceptions import ApiException

        path = (
            f"/api/v1/namespaces/{service.namespace}/services/"
            f"https:{service.name}:{service.port}/proxy/"
        )
        with _errors(f"reach service {service.namespace}/{service.name}"):
            try:
                self._api_client.call_api(
                    path,
                    "GET",
                    auth_settings=["BearerToken"],
                    _preload_content=False,
                    _request_timeout=10.0,
                )
            except ApiException as error:
                no_endpoints = error.status == 404 and '"kind":"services"' in _answer(error.body)
                return error.status not in _NOBODY_ANSWERS and not no_endpoints
        return True

    def version(self) -> str:
        """The API server's own version, ``v1.34.4``."""
        from kubernetes.client import VersionApi

        with _errors("ask for the version"):
            answer = VersionApi(self._api_client).get_code(_request_timeout=CALL_TIMEOUT_S)
            return str(answer.git_version)

    def refresh(self) -> None:
        """Forgets which kinds there are: definitions were added."""
        with _errors("ask which kinds there are"):
            self._dynamic.resources.invalidate_cache()

    def _resource(self, obj: Object) -> Any:
        return self._dynamic.resources.get(
            api_version=text(obj, "apiVersion"), kind=text(obj, "kind")
        )


@contextmanager
def api_cluster(kubeconfig: Path) -> Iterator[ApiCluster]:
    """The cluster behind ``kubeconfig``; raises ClusterError[api-silent]."""
    from kubernetes import config, dynamic

    with tempfile.TemporaryDirectory(prefix="perimeter-api-") as folder:
        with _errors("open a connection"):
            client = config.new_client_from_config(str(kubeconfig))
            client.configuration.retries = False
            found = dynamic.DynamicClient(client, cache_file=str(Path(folder) / "kinds.json"))
        try:
            yield ApiCluster(found, client)
        finally:
            client.close()


@contextmanager
def _errors(what: str) -> Iterator[None]:
    """Every exception of the client becomes a ClusterError that says what was attempted."""
    from kubernetes.client.exceptions import ApiException
    from kubernetes.config.config_exception import ConfigException
    from kubernetes.dynamic.exceptions import (
        DynamicApiError,
        KubernetesValidateMissing,
        ResourceNotFoundError,
        ResourceNotUniqueError,
    )

    try:
        yield
    except (ApiException, DynamicApiError) as error:
        raise ClusterError(
            "api-refused",
            f"the API server did not let us {what}",
            context={"status": error.status, "answer": _answer(error.body)},
        ) from error
    except (ResourceNotFoundError, ResourceNotUniqueError, KubernetesValidateMissing) as error:
        raise ClusterError(
            "unknown-kind", f"the API server does not know a kind: could not {what}"
        ) from error
    except ConfigException as error:
        raise ClusterError("bad-kubeconfig", f"could not {what}: {error}") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ClusterError(
            "api-silent",
            f"the API server does not answer: could not {what}",
            context={"last error": error},
            hint="is a control plane up? perimeter-install status shows it",
        ) from error


def _answer(body: object) -> str:
    data = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body or "")
    return data[:1500]


def _place(obj: Object) -> dict[str, str]:
    namespace = text(obj, "metadata", "namespace")
    place = {"name": text(obj, "metadata", "name")}
    return {**place, "namespace": namespace} if namespace else place


def _plain(answer: Any) -> Object:
    found = answer.to_dict()
    if not isinstance(found, dict):
        raise ClusterError("api-refused", "the API server answered something that is no object")
    return found
