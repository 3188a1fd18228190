"""bootstrap.sh with real sh, Python, venv and pip; the wheels are small but real ones."""

from __future__ import annotations

import ensurepip
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.support.bundles import PIP_WHEEL, WHEEL, SmallBundle, make_bundle

from perimeter_bundle.format import layout

COLORS = f"{layout.WHEELHOUSE}/colors-1.0-py3-none-any.whl"
PROGRAM = "import colors\ndef main(): print('perimeter-install', colors.NAME)\n"


def make_wheel(folder: Path, name: str, version: str, module: str, script: str = "") -> bytes:
    """The bytes of a wheel with one module and perhaps one command."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": module,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": (
            "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
    }
    if script:
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{script}\n"
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return path.read_bytes()


def pip_wheel() -> tuple[str, bytes]:
    """The pip that Python itself carries for ensurepip: a real one, without a network."""
    bundled = Path(ensurepip.__file__).parent / "_bundled"
    wheel = next(iter(sorted(bundled.glob("pip-*.whl"))), None)
    if wheel is None:
        pytest.skip("this Python carries no pip wheel (Debian strips it)")
    return f"{layout.WHEELHOUSE}/{wheel.name}", wheel.read_bytes()


def installable(folder: Path, *, pin: str = "", program: str = PROGRAM) -> SmallBundle:
    """A bundle whose wheelhouse really installs; made from the small one and sealed again."""
    work = folder / "wheels"
    work.mkdir()
    colors = make_wheel(work, "colors", "1.0", "NAME = 'blue'\n")
    perimeter = make_wheel(
        work, "perimeter", "0.1.0", program, "perimeter-install = perimeter:main"
    )
    name, pip = pip_wheel()
    digest = pin or hashlib.sha256(colors).hexdigest()
    bundle = make_bundle(folder, sign=False)
    bundle.file(PIP_WHEEL).unlink()
    bundle.file(name).write_bytes(pip)
    bundle.file(WHEEL).write_bytes(perimeter)
    bundle.file(COLORS).write_bytes(colors)
    requirements = f"colors==1.0 \\\n    --hash=sha256:{digest}\n"
    bundle.file(layout.INSTALL_REQUIREMENTS).write_text(requirements)
    bundle.reseal()
    return bundle


def run(
    bundle: SmallBundle, script: str, *arguments: str | Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(bundle.file(script)), *map(str, arguments)],
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(bundle.root.parent),
            "XDG_STATE_HOME": str(bundle.root.parent / "state"),
            "PYTHON": sys.executable,
            **environment,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def verify(bundle: SmallBundle) -> None:
    result = run(bundle, layout.VERIFY_SCRIPT, bundle.public_key)
    assert result.returncode == 0, result.stderr


def bootstrap(
    bundle: SmallBundle, *arguments: str | Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    prefix = bundle.root.parent / "opt"
    return run(
        bundle, layout.BOOTSTRAP_SCRIPT, "--prefix", prefix, "--no-link", *arguments, **environment
    )


def test_installs_from_its_own_wheelhouse_and_only_once(tmp_path: Path) -> None:
    bundle = installable(tmp_path)
    verify(bundle)
    first = bootstrap(bundle)
    assert (first.returncode, first.stderr) == (0, "")
    assert "Installed: perimeter-install blue" in first.stdout
    program = tmp_path / "opt/bin/perimeter-install"
    shown = subprocess.run([program], capture_output=True, text=True, check=True)
    assert shown.stdout == "perimeter-install blue\n"
    (collection,) = (tmp_path / "opt").glob("lib/*/site-packages/ansible_collections/example/tools")
    assert (collection / "MANIFEST.json").read_bytes() == b"{}\n"
    before = program.stat().st_mtime_ns
    second = bootstrap(bundle)
    assert (second.returncode, second.stderr) == (0, "")
    assert "is installed in" in second.stdout
    assert program.stat().st_mtime_ns == before


def test_an_installation_that_was_cut_is_made_again(tmp_path: Path) -> None:
    bundle = installable(tmp_path)
    verify(bundle)
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt/.perimeter-bundle").write_bytes(b"")
    (tmp_path / "opt/half").write_bytes(b"x")
    assert bootstrap(bundle).returncode == 0
    assert not (tmp_path / "opt/half").exists()


def test_refuses_before_verify_script_passed(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    result = bootstrap(bundle)
    assert result.returncode == 5
    assert "error[not-verified]: this bundle was not verified by this user" in result.stderr
    assert not (tmp_path / "opt").exists()


def test_a_record_for_another_bundle_does_not_count(tmp_path: Path) -> None:
    other = make_bundle(tmp_path / "other", number=2)
    bundle = make_bundle(tmp_path)
    state = str(tmp_path / "state")
    assert run(other, layout.VERIFY_SCRIPT, other.public_key, XDG_STATE_HOME=state).returncode == 0
    assert bootstrap(bundle).returncode == 5


@pytest.mark.parametrize(
    ("name", "code"),
    [(WHEEL, "digest-mismatch"), (layout.INSTALL_REQUIREMENTS, "digest-mismatch")],
)
def test_refuses_what_changed_after_it_was_verified(name: str, code: str, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    verify(bundle)
    bundle.file(name).write_bytes(b"changed")
    result = bootstrap(bundle)
    assert result.returncode == 4
    assert f"error[{code}]" in result.stderr
    assert name in result.stderr
    assert not (tmp_path / "opt").exists()


@pytest.mark.parametrize("link", [False, True])
def test_refuses_what_was_added_after_it_was_verified(link: bool, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    verify(bundle)
    added = bundle.file(f"{layout.WHEELHOUSE}/pip-99.0-py3-none-any.whl")
    if link:
        added.symlink_to(bundle.file(PIP_WHEEL))
    else:
        added.write_bytes(b"x")
    result = bootstrap(bundle)
    assert result.returncode == 4
    assert "error[unlisted-file]" in result.stderr


def test_refuses_a_wheel_that_is_not_the_one_in_the_lock(tmp_path: Path) -> None:
    bundle = installable(tmp_path, pin="0" * 64)
    verify(bundle)
    result = bootstrap(bundle)
    assert result.returncode == 6
    assert "error[pip-failed]" in result.stderr
    assert "DO NOT MATCH THE HASHES" in result.stderr


def test_an_installation_that_does_not_start_is_not_called_one(tmp_path: Path) -> None:
    bundle = installable(tmp_path, program="def main(): raise SystemExit(3)\n")
    verify(bundle)
    result = bootstrap(bundle)
    assert result.returncode == 6
    assert "error[broken-install]" in result.stderr
    assert (tmp_path / "opt/.perimeter-bundle").read_bytes() == b""


def test_leaves_a_folder_alone_that_something_else_uses(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    verify(bundle)
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt/precious").write_text("x")
    result = bootstrap(bundle)
    assert result.returncode == 6
    assert "error[occupied]" in result.stderr
    assert (tmp_path / "opt/precious").exists()


def test_an_older_python_is_refused_in_so_many_words(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    verify(bundle)
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit\nexit 1\n')
    old.chmod(0o755)
    result = bootstrap(bundle, PYTHON=str(old))
    assert result.returncode == 6
    assert "error[no-python]: Python 3.11 or newer is needed; found Python 3.9.2" in result.stderr


def test_a_release_that_cannot_name_a_folder_is_refused(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    data = bundle.file(layout.BUNDLE_MANIFEST).read_bytes()
    bundle.file(layout.BUNDLE_MANIFEST).write_bytes(data.replace(b'"2026.11"', b'"../../etc"'))
    bundle.reseal()
    verify(bundle)
    result = bootstrap(bundle)
    assert result.returncode == 4
    assert "the release name cannot name a folder" in result.stderr


def test_two_wheels_of_pip_are_one_too_many(tmp_path: Path) -> None:
    extra = {f"{layout.WHEELHOUSE}/pip-99.0-py3-none-any.whl": b"x"}
    bundle = make_bundle(tmp_path, extra_files=extra)
    verify(bundle)
    result = bootstrap(bundle)
    assert result.returncode == 4
    assert "error[no-wheel]: the bundle holds 2 wheels of pip; one is needed" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("--what",), 2, "unknown argument --what"),
        (("--prefix",), 2, "--prefix needs a folder"),
        (("--help",), 0, "sh DIR/bootstrap.sh [--prefix FOLDER] [--no-link]"),
    ],
)
def test_bootstrap_explains_itself(
    arguments: tuple[str, ...], status: int, text: str, tmp_path: Path
) -> None:
    result = run(make_bundle(tmp_path), layout.BOOTSTRAP_SCRIPT, *arguments)
    assert result.returncode == status
    assert text in result.stdout + result.stderr
