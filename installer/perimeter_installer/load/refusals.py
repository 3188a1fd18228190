"""What a registry says when it does not do what was asked, as errors people can act on."""

from __future__ import annotations

import json
from pathlib import Path

from perimeter_bundle.model.errors import (
    HostError,
    IntegrityError,
    NetworkError,
    PerimeterError,
    TrustError,
)
from perimeter_installer.load.endpoint import RegistryEndpoint

MAX_ANSWER_BYTES = 256 * 1024
_LOOK_AT_THE_LOG = (
    "look at the registry's log (perimeter's own: journalctl -u perimeter-registry), "
    "and at that of a proxy before it; then load again: it goes on"
)
_ANOTHER_SERVER = (
    "is registry.url the registry's own address? A proxy or a login page answers there"
)
_TOO_LARGE = (
    "a proxy before the registry takes no request that large: let it "
    "(nginx: client_max_body_size 0), then load again: it goes on"
)
_NOT_HERE = (
    "is registry.url the registry's own address, and is the project there that it names? "
    "Harbor wants one to be made before"
)
_HINTS = {
    301: _ANOTHER_SERVER,
    302: _ANOTHER_SERVER,
    303: _ANOTHER_SERVER,
    404: _NOT_HERE,
    413: _TOO_LARGE,
}
_NO_ROOM_SIGNS = ("no space left on device", '"Err":28', '"err":28', "disk quota exceeded")


def answer_text(data: bytes) -> str:
    """What the registry says, as compact text."""
    try:
        return json.dumps(json.loads(data), separators=(",", ":"))
    except ValueError:
        return data.decode("utf-8", "replace").strip()


def says_full(status: int, text: str) -> bool:
    """Whether the answer means that the registry's disc is full."""
    return status == 507 or any(sign in text for sign in _NO_ROOM_SIGNS)


def full(endpoint: RegistryEndpoint, what: str) -> HostError:
    """No room."""
    return HostError(
        "registry-full",
        f"no room on {endpoint.name}: the registry could not {what}",
        context={"registry": endpoint.url},
        hint="make room on the registry's disc and load again; what is there already stays",
    )


def refused(
    endpoint: RegistryEndpoint, what: str, status: int, text: str, *, tries: int = 1
) -> PerimeterError:
    """An answer that is final: login, wrong bytes, or one that makes no sense."""
    context = {"registry": endpoint.url, "status": status, "answer": text[:500] or "(empty)"}
    if status in (401, 403):
        return TrustError(
            "registry-login",
            f"{endpoint.name} does not let us {what}",
            context=context,
            hint="check the registry's user and password in the site's vault and its rights",
        )
    if "DIGEST_INVALID" in text or "SIZE_INVALID" in text:
        return IntegrityError(
            "digest-mismatch",
            f"{endpoint.name} refused to {what}: the bytes sent are not the digest's",
            context=context,
            hint="verify the bundle again; the medium may be damaged",
        )
    return NetworkError(
        "registry-refused",
        f"{endpoint.name} answered {status} to: {what}",
        context={**context, "tries": tries},
        hint=_HINTS.get(status, _LOOK_AT_THE_LOG),
    )


def web_page(endpoint: RegistryEndpoint, what: str) -> NetworkError:
    """Something that is no registry: a proxy's login, a portal."""
    return NetworkError(
        "registry-refused",
        f"{endpoint.name} answered with a web page to: {what}",
        context={"registry": endpoint.url},
        hint=_ANOTHER_SERVER,
    )


def unplaced_upload(endpoint: RegistryEndpoint, what: str) -> NetworkError:
    """An upload was opened, nobody knows where."""
    return NetworkError(
        "registry-refused",
        f"{endpoint.name} opened an upload and did not say where (no Location): could not {what}",
        context={"registry": endpoint.url},
        hint="does a proxy before the registry remove headers?",
    )


def unreachable(
    endpoint: RegistryEndpoint, what: str, error: Exception, tries: int
) -> NetworkError:
    """No answer at all."""
    return NetworkError(
        "registry-unreachable",
        f"{endpoint.name} did not answer: could not {what}",
        context={"registry": endpoint.url, "tries": tries, "last error": error},
        hint="is the registry running, and is its disc full? Then load again: it goes on",
    )


def untrusted(endpoint: RegistryEndpoint, error: Exception) -> TrustError:
    """A certificate of somebody else."""
    return TrustError(
        "registry-certificate",
        f"the certificate of {endpoint.name} is not the site's",
        context={"registry": endpoint.url, "error": error},
        hint="load installs certificates; of an external registry give registry.ca_file",
    )


def open_token_server(endpoint: RegistryEndpoint, found: str) -> TrustError:
    """A registry that would have the password sent where anybody can read it."""
    return TrustError(
        "registry-login",
        f"{endpoint.name} names a token server without TLS; the password was not sent there",
        context={"registry": endpoint.url, "found": found},
        hint="tell whoever runs the registry",
    )


def upload_lost(endpoint: RegistryEndpoint, what: str) -> NetworkError:
    """A registry that forgets what it was sent, again and again."""
    return NetworkError(
        "registry-refused",
        f"{endpoint.name} forgets uploads before they are whole: could not {what}",
        context={"registry": endpoint.url},
        hint="does a load balancer spread one upload over several registries?",
    )


def redirected(endpoint: RegistryEndpoint, name: str, found: str) -> NetworkError:
    """An upload that should go on at another host; credentials never follow it there."""
    return NetworkError(
        "registry-redirect",
        f"{endpoint.name} sends the upload of {name} to another address",
        context={"expected": endpoint.url, "found": found},
        hint="set the registry's external address, or give that address as registry.url",
    )


def unreadable(file: Path, error: OSError) -> IntegrityError:
    """A medium that fails, or is gone."""
    return IntegrityError(
        "unreadable-blob",
        f"cannot read {file}: {error.strerror}",
        hint="is the bundle's medium still there? Verify the bundle again",
    )


def other_size(file: Path, expected_bytes: int, found_bytes: int) -> IntegrityError:
    """A file that changed after the bundle was verified."""
    return IntegrityError(
        "size-mismatch",
        f"{file} changed since the bundle was verified",
        context={"expected": f"{expected_bytes} bytes", "found": f"{found_bytes} bytes"},
        hint="verify the bundle again; the medium may be damaged",
    )
