"""Files and folders of Kubernetes objects, read one at a time: the rim of discovery."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from perimeter_bundle.discover.stream import MAX_FILE_BYTES
from perimeter_bundle.model.errors import InputError

_ENDINGS = (".yaml", ".yml", ".json", ".yaml.gz", ".yml.gz", ".json.gz")


def read_objects(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of the file at ``path``, or of each file of objects in the folder.

    Raises InputError[no-objects], [bad-manifest-file].
    """
    if path.is_file():
        yield path.name, read_object_file(path)
        return
    for file in list_objects(path):
        yield file.relative_to(path).as_posix(), read_object_file(file)


def list_objects(folder: Path) -> list[Path]:
    """Every file of objects in the folder, sorted; raises InputError[no-objects]."""
    if not folder.is_dir():
        raise InputError(
            "no-objects",
            f"there is no file or folder {folder}",
            hint="give a rendered file (.yaml, .json, .gz), or a folder of such files",
        )
    files = [file for file in sorted(folder.rglob("*")) if _is_wanted(file, folder)]
    if not files:
        raise InputError("no-objects", f"no .yaml, .yml or .json file in {folder}")
    return files


def _is_wanted(file: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    return not hidden and file.name.endswith(_ENDINGS) and file.is_file()


def read_object_file(path: Path) -> bytes:
    """At most one byte more than allowed, so that the limit is seen and a bomb is not unpacked.

    Raises InputError[bad-manifest-file].
    """
    try:
        if path.name.endswith(".gz"):
            with gzip.open(path) as stream:
                return stream.read(MAX_FILE_BYTES + 1)
        with path.open("rb") as plain:
            return plain.read(MAX_FILE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError("bad-manifest-file", f"cannot read {path}: {error}") from error
