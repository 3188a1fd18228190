"""repodata/ for a folder of rpm packages, as dnf and zypper read it, out of the packages' headers.

Always the same bytes for the same packages: no clock, and nothing packed, since two versions of one
packer differ. https://github.com/rpm-software-management/createrepo_c writes the same elements.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from perimeter_bundle.model.digest import Digest
from perimeter_bundle.ospackages.rpm_file import RpmFile

REPODATA = "repodata"
_NAMESPACE = "http://linux.duke.edu/metadata"
# numbers of tags: https://rpm-software-management.github.io/rpm/manual/tags.html
_NAME, _VERSION, _RELEASE, _EPOCH, _ARCHITECTURE = 1000, 1001, 1002, 1003, 1022
_SUMMARY, _DESCRIPTION, _LICENCE, _BUILD_TIME = 1004, 1005, 1014, 1006
_INSTALLED_BYTES, _INSTALLED_BYTES_LONG, _SOURCE_RPM = 1009, 5009, 1044
_FOLDER_INDEXES, _BASE_NAMES, _FOLDERS, _MODES, _FILE_FLAGS = 1116, 1117, 1118, 1030, 1037
# element → tags with names, flags and versions
_RELATIONS = {
    "provides": (1047, 1112, 1113),
    "requires": (1049, 1048, 1050),
    "conflicts": (1054, 1053, 1055),
    "obsoletes": (1090, 1114, 1115),
    "recommends": (5046, 5048, 5047),
    "suggests": (5049, 5051, 5050),
    "supplements": (5052, 5054, 5053),
    "enhances": (5055, 5057, 5056),
}
_OPERATORS = {2: "LT", 4: "GT", 8: "EQ", 10: "LE", 12: "GE"}
_SENSE, _BEFORE_INSTALLING = 14, 64
_FOLDER_MODE, _GHOST = 0o040000, 64
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class ServedRpm:
    """A package as it lies in the repository, under ``file``."""

    file: str
    digest: Digest
    size_bytes: int
    rpm: RpmFile


def write_repodata(packages: Sequence[ServedRpm]) -> Mapping[str, bytes]:
    """The files of a repository by their path in it."""
    ordered = sorted(packages, key=lambda one: one.file)
    newest = max((one.rpm.number(_BUILD_TIME) for one in ordered), default=0)
    indexes = {
        "primary": _index(map(_primary, ordered), "metadata", "common", len(ordered)),
        "filelists": _index(map(_file_list, ordered), "filelists", "filelists", len(ordered)),
    }
    found = {f"{REPODATA}/{name}.xml": data for name, data in indexes.items()}
    return {**found, f"{REPODATA}/repomd.xml": _repomd(indexes, newest)}


def _repomd(indexes: Mapping[str, bytes], newest: int) -> bytes:
    lines = [
        f'<repomd xmlns="{_NAMESPACE}/repo" xmlns:rpm="{_NAMESPACE}/rpm">',
        f"  <revision>{newest}</revision>",
    ]
    for name, data in indexes.items():
        lines += [
            f'  <data type="{name}">',
            f'    <checksum type="sha256">{Digest.of_bytes(data).hex}</checksum>',
            f'    <location href="{REPODATA}/{name}.xml"/>',
            f"    <timestamp>{newest}</timestamp>",
            f"    <size>{len(data)}</size>",
            "  </data>",
        ]
    return _document([*lines, "</repomd>"])


def _index(entries: Iterable[Iterator[str]], root: str, kind: str, count: int) -> bytes:
    start = f'<{root} xmlns="{_NAMESPACE}/{kind}" xmlns:rpm="{_NAMESPACE}/rpm" packages="{count}">'
    return _document([start, *(line for entry in entries for line in entry), f"</{root}>"])


def _primary(one: ServedRpm) -> Iterator[str]:
    rpm = one.rpm
    built = rpm.number(_BUILD_TIME)
    installed = rpm.number(_INSTALLED_BYTES_LONG) or rpm.number(_INSTALLED_BYTES)
    yield '<package type="rpm">'
    yield f"  <name>{_text(rpm.text(_NAME))}</name>"
    yield f"  <arch>{_text(rpm.text(_ARCHITECTURE))}</arch>"
    yield f"  {_version(rpm)}"
    yield f'  <checksum type="sha256" pkgid="YES">{one.digest.hex}</checksum>'
    yield f"  <summary>{_text(rpm.text(_SUMMARY))}</summary>"
    yield f"  <description>{_text(rpm.text(_DESCRIPTION))}</description>"
    yield f'  <time file="{built}" build="{built}"/>'
    yield f'  <size package="{one.size_bytes}" installed="{installed}" archive="0"/>'
    yield f'  <location href="{_text(quote(one.file, safe="+~^"))}"/>'
    yield "  <format>"
    yield f"    <rpm:license>{_text(rpm.text(_LICENCE))}</rpm:license>"
    yield f"    <rpm:sourcerpm>{_text(rpm.text(_SOURCE_RPM))}</rpm:sourcerpm>"
    yield f'    <rpm:header-range start="{rpm.header_start}" end="{rpm.header_end}"/>'
    for element, tags in _RELATIONS.items():
        entries = list(_entries(rpm, *tags))
        if entries:
            yield from (f"    <rpm:{element}>", *entries, f"    </rpm:{element}>")
    for path, kind in _files(rpm):
        if "bin/" in path or path.startswith("/etc/") or path == "/usr/lib/sendmail":
            yield f"    {_file(path, kind)}"
    yield from ("  </format>", "</package>")


def _file_list(one: ServedRpm) -> Iterator[str]:
    name, architecture = one.rpm.text(_NAME), one.rpm.text(_ARCHITECTURE)
    yield f'<package pkgid="{one.digest.hex}" name="{_text(name)}" arch="{_text(architecture)}">'
    yield f"  {_version(one.rpm)}"
    yield from (f"  {_file(path, kind)}" for path, kind in _files(one.rpm))
    yield "</package>"


def _version(rpm: RpmFile) -> str:
    version, release = _text(rpm.text(_VERSION)), _text(rpm.text(_RELEASE))
    return f'<version epoch="{rpm.number(_EPOCH)}" ver="{version}" rel="{release}"/>'


def _entries(rpm: RpmFile, names: int, flags: int, versions: int) -> Iterator[str]:
    every = zip(rpm.texts(names), rpm.numbers(flags), rpm.texts(versions), strict=False)
    for name, flag, version in dict.fromkeys(every):
        if name.startswith("rpmlib("):  # what rpm itself can do
            continue
        words = f'name="{_text(name)}"'
        if version and flag & _SENSE in _OPERATORS:
            words += f' flags="{_OPERATORS[flag & _SENSE]}" {_evr(version)}'
        if names == _RELATIONS["requires"][0] and flag & _BEFORE_INSTALLING:
            words += ' pre="1"'
        yield f"      <rpm:entry {words}/>"


def _evr(text: str) -> str:
    epoch, colon, rest = text.partition(":")
    whole = rest if colon else text
    before, dash, release = whole.rpartition("-")
    version = before if dash else whole
    words = f'epoch="{_text(epoch) if colon else 0}" ver="{_text(version)}"'
    return words + (f' rel="{_text(release)}"' if dash else "")


def _files(rpm: RpmFile) -> Iterator[tuple[str, str]]:
    """Path and kind of each file: empty, dir or ghost."""
    folders = rpm.texts(_FOLDERS)
    every = zip(
        rpm.texts(_BASE_NAMES),
        rpm.numbers(_FOLDER_INDEXES),
        rpm.numbers(_MODES),
        rpm.numbers(_FILE_FLAGS),
        strict=False,
    )
    for name, index, mode, flags in every:
        kind = "dir" if mode & 0o170000 == _FOLDER_MODE else "ghost" if flags & _GHOST else ""
        if index < len(folders):
            yield folders[index] + name, kind


def _file(path: str, kind: str) -> str:
    return f'<file type="{kind}">{_text(path)}</file>' if kind else f"<file>{_text(path)}</file>"


def _text(text: str) -> str:
    return html.escape(_NOT_XML.sub("", text))


def _document(lines: Sequence[str]) -> bytes:
    return "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', *lines, ""]).encode()
