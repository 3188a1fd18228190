"""A server that answers as many public hosts at once, by the Host header.

It gives images by the OCI distribution protocol (pull only), static files, and a package index.
Registries behave like the real ones: some ask for a token, some send blobs from another host.
``serve_layout`` starts it on loopback for tests without a lab; there the first part of a
repository's name may be the host (``/v2/quay.io/minio/minio/manifests/…``).
"""

from __future__ import annotations

import contextlib
import mimetypes
import re
import ssl
import threading
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .upstream_auth import Tokens
from .upstream_content import WHEELS_HOST, RegistryContent, Repository, WheelIndex, static_file
from .upstream_faults import FaultTable
from .upstream_git import GitRepositories
from .upstream_http import FileServer, Reply, Request, json_reply

# Docker Hub's registry answers under another name than its images carry.
ALIASES = {"registry-1.docker.io": "docker.io", "index.docker.io": "docker.io"}
V2_PATH = re.compile(
    r"/v2/(?P<name>[a-z0-9][a-z0-9._/-]*)/(?P<kind>manifests|blobs|tags)/(?P<last>[^/]+)"
)


@dataclass(frozen=True, slots=True)
class HostRules:
    """How a registry differs from a plain one."""

    token_service: str | None = None
    token_host: str | None = None
    blobs_from: str | None = None


RULES: Mapping[str, HostRules] = {
    "docker.io": HostRules("registry.docker.io", "auth.docker.io"),
    "ghcr.io": HostRules("ghcr.io", "auth.ghcr.io"),
    "quay.io": HostRules("quay.io", "auth.quay.io"),
    "registry.k8s.io": HostRules(blobs_from="prod-registry-k8s-io.s3.test"),
}


@dataclass(slots=True)
class Upstream:
    """Answers requests; knows nothing of sockets."""

    registry: RegistryContent | None = None
    files: Path | None = None
    wheels: WheelIndex | None = None
    git: GitRepositories | None = None
    rules: Mapping[str, HostRules] = field(default_factory=lambda: RULES)
    tokens: Tokens = field(default_factory=Tokens)
    default_host: str | None = None

    def hosts(self) -> set[str]:
        """Every name the server answers to."""
        names = {WHEELS_HOST} if self.wheels else set()
        names |= self.git.hosts() if self.git else set()
        if self.files and self.files.is_dir():
            names |= {path.name for path in self.files.iterdir() if path.is_dir()}
        registries = self.registry.hosts() if self.registry else set()
        names |= registries | {alias for alias, host in ALIASES.items() if host in registries}
        for rules in (self.rules.get(host, HostRules()) for host in registries):
            names |= {name for name in (rules.token_host, rules.blobs_from) if name}
        return names

    def reads_body(self, host: str, path: str) -> bool:
        """Whether what is posted there is for a git repository."""
        return self.git is not None and self.git.has(host, path)

    def answer(self, request: Request) -> Reply:
        host = request.host
        if self.git and self.git.has(host, request.path):
            return self.git.answer(request)
        if request.method not in ("GET", "HEAD"):
            return _error(405, "UNSUPPORTED", f"{request.method} is not for a pull-only registry")
        if self.wheels and (host == WHEELS_HOST or request.path.startswith("/simple/")):
            return self._answer_wheels(request)
        if request.path.startswith("/-/token") or self._service_of_token_host(host):
            return self._give_token(request)
        if self._is_blob_store(request):
            return self._answer_blob_store(request)
        if request.path == "/v2/" or request.path.startswith("/v2/"):
            return self._answer_registry(request)
        found = static_file(self.files, host, request.path) if self.files else None
        if found is None:
            return Reply(404, {"Content-Type": "text/plain"}, b"404 page not found\n")
        guess = mimetypes.guess_type(found.name)[0] or "application/octet-stream"
        return Reply(200, {"Content-Type": guess}, found)

    # --- registry -----------------------------------------------------------------------------

    def _answer_registry(self, request: Request) -> Reply:
        match = V2_PATH.fullmatch(request.path)
        host, name = self._split_name(request.host, match["name"] if match else "")
        refusal = self._ask_for_token(request, host, name)
        if refusal:
            return refusal
        if request.path == "/v2/":
            return json_reply(200, {})
        if match is None:
            return _error(404, "UNSUPPORTED", "no such endpoint")
        repository = self.registry.repository(host, name) if self.registry else None
        if repository is None:
            return _error(404, "NAME_UNKNOWN", f"repository {host}/{name} is not known")
        if match["kind"] == "manifests":
            return self._manifest(repository, match["last"])
        if match["kind"] == "blobs":
            return self._blob(request, host, repository, match["last"])
        return _tags(request, name, repository)

    def _split_name(self, host: str, name: str) -> tuple[str, str]:
        """Registry and repository; on loopback the registry may be the name's first part."""
        host = ALIASES.get(host, host)
        known = self.registry.hosts() if self.registry else set()
        first, _, rest = name.partition("/")
        if host not in known and first in known:
            return first, rest
        if host not in known and self.default_host:
            return self.default_host, name
        return host, name

    def _manifest(self, repository: Repository, reference: str) -> Reply:
        assert self.registry
        digest = repository.tags.get(reference, reference)
        manifest = repository.manifests.get(digest)
        path = self.registry.blob_path(digest) if manifest else None
        if manifest is None or path is None:
            return _error(404, "MANIFEST_UNKNOWN", f"manifest {reference} is not known")
        return Reply(200, _digest_headers(digest, manifest.media_type), path)

    def moved_tag(self, digest: str) -> Reply:
        """What a registry answers after somebody moved the tag to ``digest``."""
        path = self.registry.blob_path(digest) if self.registry else None
        if path is None or self.registry is None:
            return _error(404, "MANIFEST_UNKNOWN", f"manifest {digest} is not known")
        return Reply(200, _digest_headers(digest, self.registry.media_type(digest)), path)

    def _blob(self, request: Request, host: str, repository: Repository, digest: str) -> Reply:
        assert self.registry
        # registries give manifests as blobs too
        known = digest in repository.blobs or digest in repository.manifests
        path = self.registry.blob_path(digest) if known else None
        if path is None:
            return _error(404, "BLOB_UNKNOWN", f"blob {digest} is not known")
        store = self.rules.get(host, HostRules()).blobs_from
        if store:
            return Reply(307, {"Location": request.elsewhere(store, f"/containers/{digest}")})
        return Reply(200, _digest_headers(digest, "application/octet-stream"), path)

    # --- stores behind a redirect -------------------------------------------------------------

    def _is_blob_store(self, request: Request) -> bool:
        stores = {rules.blobs_from for rules in self.rules.values()}
        return request.host in stores or request.path.startswith("/containers/")

    def _answer_blob_store(self, request: Request) -> Reply:
        if "authorization" in request.headers:  # as the real stores do
            text = b"<Error><Code>InvalidArgument</Code><Message>Authorization</Message></Error>"
            return Reply(400, {"Content-Type": "application/xml"}, text)
        digest = request.path.rpartition("/")[2]
        path = self.registry.blob_path(digest) if self.registry else None
        if path is None:
            return Reply(404, {"Content-Type": "application/xml"}, b"<Error>NoSuchKey</Error>")
        return Reply(200, {"Content-Type": "application/octet-stream"}, path)

    # --- tokens -------------------------------------------------------------------------------

    def _ask_for_token(self, request: Request, host: str, name: str) -> Reply | None:
        rules = self.rules.get(host, HostRules())
        if rules.token_service is None or rules.token_host is None:
            return None
        scope = f"repository:{name}:pull" if name else ""
        realm = request.elsewhere(rules.token_host, "/token")
        challenge = f'Bearer realm="{realm}",service="{rules.token_service}"'
        challenge += f',scope="{scope}"' if scope else ""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            reason = self.tokens.refusal(token, rules.token_service, scope)
            if reason is None:
                return None
            challenge += f',error="{reason}"'
        reply = _error(401, "UNAUTHORIZED", "authentication required")
        return Reply(401, reply.headers | {"WWW-Authenticate": challenge}, reply.body)

    def _service_of_token_host(self, host: str) -> str | None:
        pairs = {rules.token_host: rules.token_service for rules in self.rules.values()}
        return pairs.get(host)

    def _give_token(self, request: Request) -> Reply:
        service = self._service_of_token_host(request.host) or request.query_value("service")
        if service not in {rules.token_service for rules in self.rules.values()}:
            return _error(400, "UNSUPPORTED", f"no such service: {service}")
        scopes = [scope for text in request.query.get("scope", []) for scope in text.split()]
        token = self.tokens.issue(service, [*scopes, ""])
        lifetime = self.tokens.lifetime_s
        return json_reply(200, {"token": token, "access_token": token, "expires_in": lifetime})

    # --- wheels -------------------------------------------------------------------------------

    def _answer_wheels(self, request: Request) -> Reply:
        parts = [part for part in request.path.split("/") if part]
        if self.wheels and parts[:1] == ["simple"] and len(parts) <= 2:
            page = self.wheels.page(parts[1] if len(parts) == 2 else None)
            if page is not None:
                return Reply(200, {"Content-Type": "text/html; charset=utf-8"}, page.encode())
        if self.wheels and parts[:1] == ["files"] and len(parts) == 2:
            found = self.wheels.file(urllib.parse.unquote(parts[1]))
            if found:
                return Reply(200, {"Content-Type": "application/octet-stream"}, found)
        return Reply(404, {"Content-Type": "text/plain"}, b"not found\n")


def _tags(request: Request, name: str, repository: Repository) -> Reply:
    """The list of tags, in pages where the client asks for them."""
    tags = sorted(tag for tag in repository.tags if tag > request.query_value("last"))
    size = request.query_value("n")
    headers = {}
    if size.isdigit() and len(tags) > int(size):
        tags = tags[: int(size)]
        query = urllib.parse.urlencode({"n": size, "last": tags[-1] if tags else ""})
        headers["Link"] = f'<{request.path}?{query}>; rel="next"'
    reply = json_reply(200, {"name": name, "tags": tags})
    return Reply(200, reply.headers | headers, reply.body)


def _digest_headers(digest: str, media_type: str) -> dict[str, str]:
    return {
        "Content-Type": media_type,
        "Docker-Content-Digest": digest,
        "ETag": f'"{digest}"',
        "Docker-Distribution-Api-Version": "registry/2.0",
    }


def _error(status: int, code: str, message: str) -> Reply:
    return json_reply(status, {"errors": [{"code": code, "message": message, "detail": None}]})


@contextlib.contextmanager
def serve_layout(
    layout: Path | None,
    *,
    files: Path | None = None,
    wheels: Iterable[Path] = (),
    git: Path | None = None,
    tls: ssl.SSLContext | None = None,
    address: tuple[str, int] = ("127.0.0.1", 0),
    log: Path | None = None,
    faults: FaultTable | None = None,
    default_host: str | None = None,
    rules: Mapping[str, HostRules] = RULES,
    tokens: Tokens | None = None,
) -> Iterator[FileServer]:
    """Serve a layout (and more) until the block ends; ``.url`` and ``.requests`` tell of it."""
    folders = list(wheels)
    upstream = Upstream(
        registry=RegistryContent(layout) if layout else None,
        files=files,
        wheels=WheelIndex(folders) if folders else None,
        git=GitRepositories(git) if git else None,
        rules=rules,
        tokens=tokens or Tokens(),
        default_host=default_host,
    )
    server = FileServer(address, upstream, tls=tls, log=log, faults=faults or FaultTable())
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
