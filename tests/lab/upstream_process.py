"""Starts the upstream in its own network namespace, and shows it to the builder."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from .cgroups import Group
from .network import Network, port_of
from .nodes import Node
from .pki import Authority
from .state import REPOSITORY, LabError, Process, StateFolder, wait_until
from .upstream import Upstream
from .upstream_content import RegistryContent, WheelIndex
from .upstream_git import GitRepositories

NAME = "upstream"
MEMORY_BYTES = 2 << 30
BUILDER_CA = "/etc/ssl/upstream-ca.crt"
HOSTS_MARK = "# upstream of the lab"


def start_upstream(
    state: StateFolder,
    network: Network,
    builder: Node | None,
    content: Path,
    extra_wheels: Path | None,
) -> list[str]:
    """Serve ``content`` (``registry/``, ``files/``, ``git/``) at the upstream's address; its names.

    A running one is replaced. The builder gets the names in /etc/hosts and the authority's
    certificate as a file that nothing trusts by itself.
    """
    stop_upstream(state)
    state.upstream_faults.unlink(missing_ok=True)  # of a run that was killed in the middle
    names = sorted(_content_of(content, extra_wheels).hosts())
    authority = Authority.in_folder(state.path)
    certificate, key = state.path / "upstream.crt", state.path / "upstream.key"
    authority.issue(names, certificate, key)
    network.plug(port_of(NAME))
    Group(state, NAME).create(MEMORY_BYTES)
    ready = state.path / "upstream.ready"
    ready.unlink(missing_ok=True)
    _spawn(state, content, extra_wheels)
    if not wait_until(ready.exists, 20.0, step_s=0.05):
        tail = (state.path / "upstream.err").read_text()[-2000:]
        raise LabError(f"the upstream did not start:\n{tail}")
    if builder:
        show_to_builder(builder, names, authority)
    return names


def stop_upstream(state: StateFolder) -> None:
    if process := Process.read(state.record(NAME)):
        process.end()
    state.record(NAME).unlink(missing_ok=True)


def show_to_builder(builder: Node, names: list[str], authority: Authority) -> None:
    """Names into /etc/hosts (in place of former ones), and the certificate of the authority."""
    former = builder.run(["cat", "/etc/hosts"]).stdout.splitlines()
    lines = [line for line in former if not line.endswith(HOSTS_MARK)]
    address = port_of(NAME).address
    lines += [f"{address} {name} {HOSTS_MARK}" for name in names]
    builder.run(["sh", "-c", "cat > /etc/hosts"], input="\n".join(lines) + "\n")
    builder.push(authority.certificate, BUILDER_CA)


def _content_of(content: Path, extra_wheels: Path | None) -> Upstream:
    layout = content / "registry"
    return Upstream(
        registry=RegistryContent(layout) if (layout / "index.json").exists() else None,
        files=content / "files",
        wheels=WheelIndex([extra_wheels]) if extra_wheels else None,
        git=GitRepositories(content / "git"),
    )


def _spawn(state: StateFolder, content: Path, extra_wheels: Path | None) -> None:
    argv = ["nsenter", f"--net=/run/netns/{state.namespace(NAME)}", sys.executable]
    argv += ["-m", "tests.lab.upstream_main", str(state.path), str(content.resolve())]
    argv += ["--wheels", str(extra_wheels.resolve())] if extra_wheels else []
    with (state.path / "upstream.err").open("wb") as errors:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            cwd=REPOSITORY,
            start_new_session=True,
        )
    threading.Thread(target=child.wait, daemon=True).start()
    if process := Process.of(child.pid):
        process.write(state.record(NAME))
