"""User names and passwords as docker and podman keep them: config.json and its helpers.

https://github.com/docker/cli/blob/v28.0.0/cli/config/configfile/file.go
https://github.com/docker/docker-credential-helpers
Read when a registry asks for a login, never written, never shown.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from perimeter_bundle.model.errors import InputError, PerimeterError
from perimeter_bundle.model.reference import DOCKER_HUB
from perimeter_bundle.tools.run import run_tool

MAX_CONFIG_BYTES = 1024 * 1024
HELPER_TIMEOUT_S = 30.0
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_HUB_HOSTS = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
_HELPER_NAME = re.compile(r"[A-Za-z0-9._-]+")

Table = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name with a password, or an identity token (a refresh token, no user name)."""

    username: str
    secret: str = field(repr=False)
    is_identity_token: bool = False

    def basic_header(self) -> str:
        """The Authorization header of RFC 7617."""
        pair = f"{self.username}:{self.secret}".encode()
        return "Basic " + base64.b64encode(pair).decode("ascii")


class CredentialStore:
    """Credentials by registry host out of one config.json; asks helpers at most once a host."""

    def __init__(self, config: Path | None, environment: Mapping[str, str]) -> None:
        self._path = config
        self._environment = environment  # of helpers
        self._lock = threading.Lock()
        self._document: Table | None = None
        self._found: dict[str, Credentials | None] = {}

    def find(self, host: str) -> Credentials | None:
        """The credentials for ``host`` (as in references), None when there are none.

        Raises InputError[bad-docker-config]; a helper that fails counts as InputError too.
        """
        with self._lock:
            if host not in self._found:
                self._found[host] = self._look_up(host)
            return self._found[host]

    def _look_up(self, host: str) -> Credentials | None:
        if self._path is None:
            return None
        if self._document is None:
            self._document = _read_config(self._path)
        helpers = _table(self._document, "credHelpers")
        keys = _keys(host)
        for key in keys:
            helper = helpers.get(key)
            if isinstance(helper, str) and helper:
                return self._ask_helper(helper, key, self._path.parent)
        entries = _table(self._document, "auths")
        for key, entry in entries.items():
            if _bare_host(key) in {_bare_host(known) for known in keys}:
                found = _from_entry(cast("Table", entry), self._path, key)
                if found:
                    return found
        store = self._document.get("credsStore")
        if isinstance(store, str) and store:
            return self._ask_helper(store, keys[0], self._path.parent)
        return None

    def _ask_helper(self, helper: str, key: str, folder: Path) -> Credentials | None:
        if not _HELPER_NAME.fullmatch(helper):
            raise InputError(
                "bad-docker-config", f"not the name of a credential helper: {helper!r}"
            )
        program = f"docker-credential-{helper}"
        try:
            completed = run_tool(
                [program, "get"],
                folder=folder,
                environment=self._environment,
                timeout_s=HELPER_TIMEOUT_S,
                what=f"asking for the credentials of {key}",
                input_bytes=key.encode(),
            )
            document = json.loads(completed.stdout)
            username, secret = document["Username"], document["Secret"]
        except PerimeterError as error:
            # helpers say this, on stdout, for a host they do not know
            if "credentials not found" in str(error):
                return None
            raise InputError(
                "credential-helper",
                f"{program} gave no credentials for {key}",
                context={"found": error.message},
                hint=f"try it by hand: echo {key} | {program} get",
            ) from None
        except (ValueError, LookupError, TypeError, RecursionError):
            raise InputError(
                "credential-helper", f"{program} answered something that is not credentials"
            ) from None
        if not isinstance(username, str) or not isinstance(secret, str) or not secret:
            return None
        return Credentials(username, secret, is_identity_token=username == "<token>")


def _read_config(path: Path) -> Table:
    try:
        data = path.read_bytes()[: MAX_CONFIG_BYTES + 1]
        document = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        # the parser's message quotes nothing of the file, but its position is enough
        raise InputError(
            "bad-docker-config",
            f"cannot read {path}",
            context={"found": type(error).__name__},
            hint="it must be the JSON file that docker login writes",
        ) from None
    if not isinstance(document, dict):
        raise InputError("bad-docker-config", f"{path} does not hold a JSON object")
    return document


def _table(document: Table, key: str) -> Table:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _keys(host: str) -> tuple[str, ...]:
    if host in _HUB_HOSTS:
        return (_DOCKER_HUB_KEY, "docker.io", "index.docker.io", "registry-1.docker.io")
    return (host,)


def _bare_host(key: str) -> str:
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]


def _from_entry(entry: Table, path: Path, key: str) -> Credentials | None:
    if not isinstance(entry, dict):
        return None
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Credentials("", token, is_identity_token=True)
    packed = entry.get("auth")
    if isinstance(packed, str) and packed:
        try:
            text = base64.b64decode(packed, validate=True).decode("utf-8").rstrip("\x00")
        except (binascii.Error, UnicodeDecodeError):
            text = ""
        username, colon, secret = text.partition(":")
        if not colon:
            raise InputError(
                "bad-docker-config",
                f"{path}: the entry for {key} is damaged",
                hint="run docker login again",
            )
        return Credentials(username, secret)
    username_value, secret_value = entry.get("username"), entry.get("password")
    if isinstance(username_value, str) and isinstance(secret_value, str) and username_value:
        return Credentials(username_value, secret_value)
    return None
