"""content/python-index/: a site's wheels, with a simple index that pip reads from any place.

https://packaging.python.org/en/latest/specifications/simple-repository-api/
All links are relative, so it works from the disc (``--find-links``, ``--index-url file://…``) and
behind any web server that gives out files.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from perimeter_bundle.collect.content import link_or_copy
from perimeter_bundle.collect.python_packages import CarriedPackage
from perimeter_bundle.format.files import write_file
from perimeter_bundle.format.layout import PYTHON_INDEX, python_package_path
from perimeter_bundle.format.manifest import BundleItem, ItemKind
from perimeter_bundle.model.lock import WORKLOADS

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="pypi:repository-version" content="1.0">
<title>{title}</title></head>
<body>
{links}
</body>
</html>
"""


def write_python_index(bundle: Path, carried: Sequence[CarriedPackage]) -> tuple[BundleItem, ...]:
    """Writes wheels and pages, and gives back the items; nothing for no packages."""
    if not carried:
        return ()
    for path, page in index_pages(carried).items():
        write_file(bundle / PYTHON_INDEX / path, page)
    for one in carried:
        link_or_copy(one.wheel.path, bundle / python_package_path(one.locked.filename))
    return tuple(_item(one) for one in carried)


def index_pages(carried: Iterable[CarriedPackage]) -> dict[str, bytes]:
    """The pages by path below the index; the same packages give the same bytes."""
    by_name: dict[str, list[CarriedPackage]] = {}
    for one in sorted(carried, key=lambda one: one.locked.filename):
        by_name.setdefault(one.locked.name, []).append(one)
    names = sorted(by_name)
    pages = {
        "simple/index.html": _page(
            "Packages of this site", [f'<a href="{name}/">{name}</a><br>' for name in names]
        )
    }
    for name in names:
        pages[f"simple/{name}/index.html"] = _page(name, [_link(one) for one in by_name[name]])
    return pages


def _link(one: CarriedPackage) -> str:
    filename, wheel = one.locked.filename, one.wheel
    address = f"../../{quote(filename)}#sha256={wheel.digest.hex}"
    requires = ""
    if wheel.requires_python:
        requires = f' data-requires-python="{html.escape(wheel.requires_python)}"'
    return f'<a href="{address}"{requires}>{html.escape(filename)}</a><br>'


def _page(title: str, links: Sequence[str]) -> bytes:
    return _PAGE.format(title=html.escape(title), links="\n".join(links)).encode()


def _item(one: CarriedPackage) -> BundleItem:
    wheel, locked = one.wheel, one.locked
    pythons = ", ".join(str(target) for target in locked.targets)
    return BundleItem(
        kind=ItemKind.WHEEL,
        name=python_package_path(locked.filename),
        digest=wheel.digest,
        payload=wheel.digest,
        size_bytes=wheel.size_bytes,
        platforms=(),
        source=locked.url or f"Python package {locked.name}",
        licence=wheel.licence,
        component=WORKLOADS,
        why=(f"workloads.yaml: for Python {pythons}",),
        version=wheel.version,
    )
