"""perimeter's own wheel, made again; and collections taken out of a package."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from pathlib import Path

import pytest

from perimeter_bundle.catalog.content import content_root
from perimeter_bundle.collect import own_wheel as own_wheel_module
from perimeter_bundle.collect.collections import COLLECTIONS_USED, unpack_collections
from perimeter_bundle.collect.own_wheel import OwnWheel, own_wheel
from perimeter_bundle.model.errors import HostError, IntegrityError

FILES = {
    "perimeter_bundle/__init__.py": b"x = 1\n",
    "perimeter_bundle/_content/roles/node/tasks/main.yml": b"---\n",
    "perimeter_bundle/_content/roles/node/__pycache__/x.pyc": b"",
    "perimeter-1.0.dist-info/METADATA": b"Name: perimeter\nVersion: 1.0\n",
    "perimeter-1.0.dist-info/WHEEL": b"Tag: py3-none-any\n",
}


def wheel(files: dict[str, bytes] | None = None) -> OwnWheel:
    return OwnWheel("perimeter-1.0-py3-none-any.whl", "1.0", files or FILES)


def test_the_same_files_give_the_same_wheel_in_any_order() -> None:
    backwards = dict(reversed(FILES.items()))
    assert wheel().to_bytes() == wheel(backwards).to_bytes()


def test_record_lists_every_file_and_itself_last() -> None:
    with zipfile.ZipFile(io.BytesIO(wheel().to_bytes())) as archive:
        names = archive.namelist()
        record = archive.read("perimeter-1.0.dist-info/RECORD").decode().splitlines()
    assert names[-1] == "perimeter-1.0.dist-info/RECORD"
    assert [line.split(",")[0] for line in record] == names
    assert record[-1] == "perimeter-1.0.dist-info/RECORD,,"
    assert record[0].split(",")[1].startswith("sha256=")


def test_content_leaves_caches_out() -> None:
    assert wheel().content("roles") == {"node/tasks/main.yml": b"---\n"}


def installed(site: Path, *, change: bool = False) -> None:
    """The wheel as an installer leaves it: with scripts, caches, and a RECORD of all of it."""
    with zipfile.ZipFile(io.BytesIO(wheel().to_bytes())) as archive:
        archive.extractall(site)
    info = site / "perimeter-1.0.dist-info"
    (info / "INSTALLER").write_text("pip\n")
    (info / "direct_url.json").write_text("{}")
    script = site.parent / "bin" / "perimeter-bundle"
    script.parent.mkdir()
    script.write_text("#!python\n")
    record = (info / "RECORD").read_text()
    digest = hashlib.sha256(b"#!python\n").hexdigest()
    record += f"../bin/perimeter-bundle,sha256={digest},9\n"
    record += "perimeter-1.0.dist-info/INSTALLER,,4\nperimeter-1.0.dist-info/direct_url.json,,2\n"
    (info / "RECORD").write_text(record)
    if change:
        (site / "perimeter_bundle" / "__init__.py").write_text("x = 2\n")


def test_an_installation_gives_the_wheel_it_was_installed_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    again = own_wheel(tmp_path / "site" / "perimeter_bundle" / "_content", tmp_path)
    files = {path: data for path, data in FILES.items() if not path.endswith(".pyc")}
    assert again.to_bytes() == wheel(files).to_bytes()
    assert again.name == "perimeter-1.0-py3-none-any.whl"


def test_a_changed_installation_is_not_put_into_a_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path / "site", change=True)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(IntegrityError) as caught:
        own_wheel(tmp_path / "site" / "perimeter_bundle" / "_content", tmp_path)
    assert caught.value.code == "changed-installation"
    assert caught.value.problems == ("perimeter_bundle/__init__.py",)


def test_no_installation_at_all_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_wheel_module, "DISTRIBUTION", "perimeter-that-is-not-there")
    with pytest.raises(HostError) as caught:
        own_wheel(tmp_path / "_content", tmp_path)
    assert caught.value.code == "not-installed"


def package(folder: Path, **changes: bytes) -> Path:
    path = folder / "ansible-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for collection in COLLECTIONS_USED:
            module = b"# module\n"
            listed = {
                "files": [
                    {
                        "name": "plugins/modules/one.py",
                        "ftype": "file",
                        "chksum_sha256": hashlib.sha256(module).hexdigest(),
                    }
                ]
            }
            files = {
                "MANIFEST.json": json.dumps({"collection_info": {"version": "2.0"}}).encode(),
                "FILES.json": json.dumps(listed).encode(),
                "plugins/modules/one.py": module,
                "tests/unit/test_one.py": b"",
                **changes,
            }
            for name, data in files.items():
                archive.writestr(f"{collection.folder}/{name}", data)
    return path


def test_collections_are_taken_out_without_their_tests(tmp_path: Path) -> None:
    found = unpack_collections(package(tmp_path), tmp_path / "bundle")
    assert [(one.version, one.collection.licence) for one in found] == [
        ("2.0", "GPL-3.0-or-later")
    ] * len(COLLECTIONS_USED)
    first = tmp_path / "bundle" / found[0].path
    assert sorted(path.name for path in first.rglob("*") if path.is_file()) == [
        "FILES.json",
        "MANIFEST.json",
        "one.py",
    ]


def test_a_collection_that_differs_from_its_own_list_is_refused(tmp_path: Path) -> None:
    path = package(tmp_path, **{"plugins/modules/one.py": b"# changed\n"})
    with pytest.raises(IntegrityError) as caught:
        unpack_collections(path, tmp_path / "bundle")
    assert caught.value.code == "bad-collection"
    assert "plugins/modules/one.py is not what FILES.json says" in caught.value.message


def test_a_path_that_climbs_out_of_a_collection_is_refused(tmp_path: Path) -> None:
    path = package(tmp_path, **{"../../../../evil": b"x"})
    with pytest.raises(IntegrityError) as caught:
        unpack_collections(path, tmp_path / "bundle")
    assert caught.value.code == "bad-collection"
    assert not (tmp_path / "evil").exists()


def test_a_package_without_the_collections_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.whl"
    with zipfile.ZipFile(path, "w"):
        pass
    with pytest.raises(IntegrityError) as caught:
        unpack_collections(path, tmp_path / "bundle")
    assert "holds no collection ansible.posix" in caught.value.message


def test_every_collection_the_playbooks_use_is_carried() -> None:
    carried = {f"{one.namespace}.{one.name}" for one in COLLECTIONS_USED} | {"ansible.builtin"}
    used = set()
    for folder in ("roles", "playbooks"):
        for path in (content_root() / folder).rglob("*.yml"):
            used |= set(
                re.findall(
                    r"^\s*-?\s*((?:ansible|community|kubernetes)\.[a-z]+)\.[a-z_0-9]+:",
                    path.read_text(),
                    re.M,
                )
            )
    assert used <= carried
