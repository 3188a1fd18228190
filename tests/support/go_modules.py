"""A folder that is a Go module proxy, with small modules in it; no network, no version control.

https://go.dev/ref/mod#goproxy-protocol and, for the checksum, golang.org/x/mod/sumdb/dirhash
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DATE = (1980, 1, 1, 0, 0, 0)
GREETER = "example.org/greeter"
HELLO = "example.org/hello"
VERSION = "v1.2.3"
# without a package of the standard library: it compiles in seconds from nothing
MAIN = """\
package main

import "example.org/greeter"

var Stamp = "none"

func main() { println(greeter.Greet(), Stamp) }
"""
LIBRARY = 'package greeter\n\nfunc Greet() string { return "hello" }\n'
LIBRARY_MOD = f"module {GREETER}\n\ngo 1.21\n"


@dataclass(frozen=True, slots=True)
class GoProxy:
    """``GOPROXY=file://<folder>``."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a user would set: modules from here alone, and no checksum database."""
        return {"GOPROXY": f"file://{self.folder}", "GOSUMDB": "off"}

    def add(self, module: str, version: str, files: Mapping[str, str]) -> str:
        """Publishes a module; gives back its checksum as go.sum has it."""
        names = {f"{module}@{version}/{path}": text.encode() for path, text in files.items()}
        raw = io.BytesIO()
        with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in names.items():
                archive.writestr(zipfile.ZipInfo(name, DATE), data)
        place = self.folder / module / "@v"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{version}.zip").write_bytes(raw.getvalue())
        (place / f"{version}.mod").write_text(files.get("go.mod", f"module {module}\n"))
        (place / f"{version}.info").write_text(json.dumps({"Version": version}))
        return dirhash(names)


def dirhash(files: Mapping[str, bytes]) -> str:
    """Go's ``h1:`` checksum of files by name."""
    lines = "".join(
        f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)
    )
    return f"h1:{base64.b64encode(hashlib.sha256(lines.encode()).digest()).decode()}"


def hello_proxy(folder: Path) -> tuple[GoProxy, str]:
    """A proxy with a program that uses a library, and the program's checksum."""
    proxy = GoProxy(folder)
    library = proxy.add(GREETER, "v0.1.0", {"go.mod": LIBRARY_MOD, "greeter.go": LIBRARY})
    return proxy, proxy.add(HELLO, VERSION, hello_files(library))


def hello_files(library_sum: str, main: str = MAIN, go: str = "1.21") -> dict[str, str]:
    """The program's tree; its go.sum pins the library."""
    library_mod = dirhash({"go.mod": LIBRARY_MOD.encode()})
    return {
        "go.mod": f"module {HELLO}\n\ngo {go}\n\nrequire {GREETER} v0.1.0\n",
        "go.sum": f"{GREETER} v0.1.0 {library_sum}\n{GREETER} v0.1.0/go.mod {library_mod}\n",
        "main.go": main,
        "lib/lib.go": "package lib\n",
    }


def go_archive(program: str, padding: int = 0) -> bytes:
    """An archive like Go's own whose go command is this script; ``padding`` bytes lie beside it."""
    files = {
        "go/VERSION": (os.urandom(padding), 0o644),
        "go/bin/go": (program.encode(), 0o755),
        "go/test/left-out.go": (b"package main\n", 0o644),
    }
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz", compresslevel=1) as tar:
        for name, (data, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            tar.addfile(entry, io.BytesIO(data))
    return raw.getvalue()
