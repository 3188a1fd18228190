#!/usr/bin/python
"""Puts programs of the bundle on a host: fetched from the site's registry, checked, unpacked.

One task for many files: what is in place is hashed and believed only then; what is not is fetched
from the first replica that gives the right bytes and moved into place by one rename, so a program
that runs is never written over.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import os
import posixpath
import ssl
import stat
import tarfile
import tempfile
import urllib.request
from http.client import HTTPException
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: site_files
short_description: Files of the bundle are on the host, byte for byte
description:
  - Each file is a plain file (O(files[].dest)) or a tar archive whose members are unpacked
    (O(files[].unpack)).
  - A file comes from O(files[].src), or from the first of O(files[].urls) that answers with the
    promised SHA-256. No proxy is used and only O(ca_file) is trusted.
options:
  files:
    description: What must be on the host.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name for messages., type: str, required: true}
      sha256: {description: SHA-256 of the file itself., type: str, required: true}
      size_bytes: {description: Length of the file itself., type: int, required: true}
      urls: {description: Where replicas have it., type: list, elements: str, default: []}
      src: {description: Where it lies on this host already., type: path}
      dest: {description: Where a plain file belongs., type: path}
      unpack:
        description: Members of an archive; each matching regular file goes into a folder.
        type: list
        elements: dict
        default: []
      mode: {description: Mode of what is put in place., type: str, default: "0755"}
  ca_file: {description: The CA that signed the registry's certificate., type: path}
  url_username: {description: User of an external registry., type: str, default: ""}
  url_password: {description: Its password., type: str, default: ""}
  timeout_s: {description: How long a replica may be silent., type: int, default: 20}
  record_dir:
    description: Where the module remembers which members an archive held.
    type: path
    default: /var/lib/perimeter/files
author: [perimeter]
"""

RETURN = r"""
files:
  description: Paths that were written, or would be.
  type: list
  elements: str
  returned: always
"""

CHUNK_BYTES = 1024 * 1024
ROUNDS = 2  # each replica is asked twice: a restarting registry answers the second time


class Refused(Exception):
    """Bytes are not the promised ones, or nobody gave them."""


def sha256_of(path: str) -> str | None:
    """SHA-256 of a regular file; None when there is none."""
    try:
        with Path(path).open("rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                return None
            hasher = hashlib.sha256()
            while chunk := stream.read(CHUNK_BYTES):
                hasher.update(chunk)
            return hasher.hexdigest()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def in_place(path: str, sha256: str, mode: int) -> bool:
    """Whether ``path`` has these bytes, this mode, and root or this user as its owner."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return (
        stat.S_ISREG(status.st_mode)
        and stat.S_IMODE(status.st_mode) == mode
        and status.st_uid == os.geteuid()
        and sha256_of(path) == sha256
    )


def copy_checked(read, target, sha256: str, size_bytes: int) -> None:
    """Copies what ``read`` gives; raises Refused unless length and SHA-256 are as promised."""
    hasher, count = hashlib.sha256(), 0
    while chunk := read(CHUNK_BYTES):
        count += len(chunk)
        if count > size_bytes:
            raise Refused(f"more than the promised {size_bytes} bytes came")
        hasher.update(chunk)
        target.write(chunk)
    if count != size_bytes:
        raise Refused(f"{count} of {size_bytes} bytes came")
    if hasher.hexdigest() != sha256:
        raise Refused(f"expected sha256 {sha256}, got {hasher.hexdigest()}")


class Source:
    """Where bytes come from."""

    def __init__(self, ca_file, username, password, timeout_s):
        context = ssl.create_default_context(cafile=ca_file or None)  # noqa: TID251 - urllib, one thread
        # an empty ProxyHandler: a proxy in the environment must never see the site's traffic
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        self._headers = {}
        if username:
            pair = base64.b64encode(f"{username}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {pair}"
        self._timeout_s = timeout_s

    def copy(self, file, target) -> None:
        """Writes the file's bytes to ``target``, checked; raises Refused with every reason."""
        if file["src"]:
            with Path(file["src"]).open("rb") as stream:
                copy_checked(stream.read, target, file["sha256"], file["size_bytes"])
            return
        reasons = []
        for url in [*file["urls"]] * ROUNDS:
            target.seek(0)
            target.truncate()
            try:
                request = urllib.request.Request(url, headers=self._headers)  # noqa: S310
                with self._opener.open(request, timeout=self._timeout_s) as answer:
                    copy_checked(answer.read, target, file["sha256"], file["size_bytes"])
            except (OSError, HTTPException, Refused) as error:
                reasons.append(f"{url}: {error}")
            else:
                return
        raise Refused("no replica gave it: " + "; ".join(reasons or ["it has no address"]))


def install(read, folder: str, name: str, mode: int) -> str:
    """Puts what ``read`` gives at folder/name by one rename; gives back its SHA-256."""
    Path(folder).mkdir(mode=0o755, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    try:
        hasher = hashlib.sha256()
        with os.fdopen(handle, "wb") as stream:
            while chunk := read(CHUNK_BYTES):
                hasher.update(chunk)
                stream.write(chunk)
            os.fchmod(stream.fileno(), mode)
            os.fchown(stream.fileno(), os.geteuid(), os.getegid())
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).rename(Path(folder, name))
    except BaseException:
        Path(temporary).unlink()
        raise
    return hasher.hexdigest()


def unpack(archive, rules, mode: int) -> dict[str, str]:
    """Regular members that a rule names, flat in the rule's folder; path → SHA-256.

    Only the last part of a member's name is used, so nothing in an archive climbs out.
    """
    placed, wanted = {}, {rule["from"] for rule in rules}
    with tarfile.open(fileobj=archive, mode="r:*") as tar:
        for member in tar:
            name = posixpath.normpath(member.name)
            for rule in rules:
                if not member.isreg() or not fnmatch.fnmatchcase(name, rule["from"]):
                    continue
                base = posixpath.basename(name)
                placed[str(Path(rule["to"], base))] = install(
                    tar.extractfile(member).read, rule["to"], base, mode
                )
                wanted.discard(rule["from"])
    if wanted:
        raise Refused("the archive has no member " + ", ".join(sorted(wanted)))
    return placed


def record_path(record_dir: str, file) -> Path:
    """The record of one archive unpacked by one set of rules."""
    rules = json.dumps(file["unpack"], sort_keys=True).encode()
    name = f"{file['sha256'][:32]}-{hashlib.sha256(rules).hexdigest()[:8]}.json"
    return Path(record_dir, name)


def expected(record_dir: str, file) -> dict[str, str]:
    """Path → SHA-256 of what must be in place; empty when that is not known yet."""
    if file["dest"]:
        return {file["dest"]: file["sha256"]}
    try:
        record = json.loads(record_path(record_dir, file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def ensure(file, source: Source, record_dir: str, *, dry: bool) -> list[str]:
    """Puts one file in place; gives back the paths that were not as they should be."""
    mode = int(file["mode"], 8)
    wanted = expected(record_dir, file)
    wrong = [path for path, sha256 in sorted(wanted.items()) if not in_place(path, sha256, mode)]
    if wanted and not wrong:
        return []
    if dry:
        return wrong or sorted({rule["to"] for rule in file["unpack"]})
    folder = str(Path(file["dest"]).parent) if file["dest"] else record_dir
    Path(folder).mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as fetched:
        source.copy(file, fetched)
        fetched.seek(0)
        if file["dest"]:
            install(fetched.read, folder, Path(file["dest"]).name, mode)
            return wrong
        placed = unpack(fetched, file["unpack"], mode)
    record = json.dumps(placed, sort_keys=True).encode()
    chunks = iter([record])
    target = record_path(record_dir, file)
    install(lambda _: next(chunks, b""), record_dir, target.name, 0o644)
    return sorted(placed)


def main() -> None:
    """Runs as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "sha256": {"type": "str", "required": True},
                    "size_bytes": {"type": "int", "required": True},
                    "urls": {"type": "list", "elements": "str", "default": []},
                    "src": {"type": "path"},
                    "dest": {"type": "path"},
                    "unpack": {"type": "list", "elements": "dict", "default": []},
                    "mode": {"type": "str", "default": "0755"},
                },
                "required_one_of": [("dest", "unpack")],
            },
            "ca_file": {"type": "path"},
            "url_username": {"type": "str", "default": ""},
            "url_password": {"type": "str", "default": "", "no_log": True},
            "timeout_s": {"type": "int", "default": 20},
            "record_dir": {"type": "path", "default": "/var/lib/perimeter/files"},
        },
        supports_check_mode=True,
    )
    options = module.params
    # before the first install the CA is not there yet; a dry run fetches nothing and needs none
    ca_file = None if module.check_mode else options["ca_file"]
    written: list[str] = []
    for file in options["files"]:
        try:
            source = Source(
                ca_file, options["url_username"], options["url_password"], options["timeout_s"]
            )
            written += ensure(file, source, options["record_dir"], dry=module.check_mode)
        except (Refused, OSError, tarfile.TarError) as error:
            module.fail_json(msg=f"{file['name']} was not put in place: {error}", files=written)
    module.exit_json(
        changed=bool(written),
        files=written,
        diff={"before": "", "after": "".join(f"{path}\n" for path in written)},
    )


if __name__ == "__main__":
    main()
