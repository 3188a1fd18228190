"""Remote references of kustomizations: which text is one, and what it names. Pure.

As kustomize reads them (v5.8, ``api/internal/git/repospec.go`` and ``loader``): ``https`` address
of a file; ``[git::][scheme://][user@]host/org/repo[//]path?ref=…``; ``git@host:org/repo``.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from perimeter_bundle.model.errors import InputError

_SCHEME = re.compile(r"(ssh|https|http|file)://", re.IGNORECASE)
_USER = re.compile(r"[A-Za-z][A-Za-z0-9-]*@")
_GITHUB = re.compile(r"github\.com[/:]", re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?")
_PATH = re.compile(r"[A-Za-z0-9._~+%-]+(?:/[A-Za-z0-9._~+%-]+)*")
_FILE_ENDINGS = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file behind an https address."""

    url: str


@dataclass(frozen=True, slots=True)
class RemoteTree:
    """A folder of a git repository; no ``ref`` means its default branch."""

    host: str
    repository: str  # path of the repository on the host
    path: str  # folder inside, empty for the top
    ref: str

    @property
    def url(self) -> str:
        """Where git fetches it: over https, whatever the reference said."""
        return f"https://{self.host}/{self.repository}"


Remote = RemoteFile | RemoteTree


def parse_remote(text: str) -> Remote | None:
    """What ``text`` names on another server; None for a path in the tree.

    Raises InputError[bad-remote] for what kustomize would fetch and this program will not.
    """
    rest = text[5:] if text.lower().startswith("git::") else text
    scheme_match = _SCHEME.match(rest)
    scheme = scheme_match.group(1).lower() if scheme_match else ""
    rest = rest[scheme_match.end() :] if scheme_match else rest
    user_match = _USER.match(rest)
    is_github = _GITHUB.match(rest[user_match.end() :] if user_match else rest)
    if not scheme and not user_match and not is_github:
        return None
    if scheme in ("file", "http"):
        raise _refused(text, f"{scheme}:// is not fetched; only https is")
    if scheme == "https" and "@" in urlsplit(f"https://{rest}").netloc:
        raise _refused(text, "it holds a user name; logins are not written into kustomizations")
    rest = rest[user_match.end() :] if user_match else rest
    if not scheme:
        rest = re.sub(r"^([^/:]+):", r"\1/", rest)  # git@host:org/repo
    body, _, query = rest.partition("?")
    if scheme == "https" and not query and _is_file(body):
        return RemoteFile(f"https://{_checked(text, body)}")
    return _tree(text, body, query)


def _is_file(body: str) -> bool:
    return body.endswith(_FILE_ENDINGS) and "//" not in body and ".git/" not in body


def _tree(text: str, body: str, query: str) -> RemoteTree:
    host, _, path = body.partition("/")
    values = parse_qs(query)
    ref = (values.get("ref") or values.get("version") or [""])[0]
    if "_git/" in path:
        before, _, after = path.partition("_git/")
        name, _, inside = after.partition("/")
        repository = f"{before}_git/{name}"
    elif "//" in path:
        repository, _, inside = path.partition("//")
    elif ".git" in path:
        before, _, inside = path.partition(".git")
        repository = f"{before}.git"
    else:
        parts = path.split("/")
        repository, inside = "/".join(parts[:2]), "/".join(parts[2:])
        if len([part for part in parts[:2] if part]) < 2:
            raise _refused(text, "it names no repository")
    inside = posixpath.normpath(inside.strip("/") or ".")
    if inside == ".." or inside.startswith("../"):
        raise _refused(text, "its path climbs out of the repository")
    _checked(text, f"{host}/{repository}")
    return RemoteTree(host.lower(), repository, "" if inside == "." else inside, ref)


def _checked(text: str, body: str) -> str:
    host, _, path = body.partition("/")
    parts = path.split("/")
    if not _HOST.fullmatch(host) or not _PATH.fullmatch(path) or {".", ".."} & set(parts):
        raise _refused(text, "it is not an address")
    return body


def _refused(text: str, reason: str) -> InputError:
    return InputError("bad-remote", f"remote reference {text[:300]!r} is refused: {reason}")
