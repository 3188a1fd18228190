"""The whole road as a user walks it: build on the builder, carry, install from the jump host.

Each step runs the programs unmodified, with the options a user would give. The demo shows the
steps one after another; the end-to-end tests run the same ones and look closer.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .lab import Lab
from .modules import PROXY_HOST
from .nodes import Result
from .state import cache_folder
from .wheels import WheelFolder

RELEASE = "2026.11-base"
UPSTREAM_CA = "/etc/ssl/upstream-ca.crt"

# on the builder
BUILDER_VENV = "/opt/perimeter-bundle"
LOCK = "/srv/images.lock"
BUNDLES = "/srv/bundles"
BUNDLE_AT_BUILDER = f"{BUNDLES}/{RELEASE}"
KEY = "/srv/keys/builder.key"
PUBLIC_KEY = "/srv/keys/builder.pub"
BUILD_CACHE = "/srv/compiled"

# on the jump host
CARRIED = "/srv/carried"
BUNDLE = f"{CARRIED}/{RELEASE}"
SITE = "/srv/site/site.yaml"
TRUST = "/srv/site/trust"
REPORTS = "/srv/site/reports"


def note_nothing(line: str) -> None:
    """An ``on_line`` for tests, which read what a command printed afterwards."""


@dataclass
class Scenario:
    """A lab with its upstream, and the commands of both programs."""

    lab: Lab
    wheels: WheelFolder
    on_line: Callable[[str], None] = note_nothing
    control_planes: Sequence[str] = ("n1", "n2", "n3")
    workers: Sequence[str] = ("n1", "n2", "n3")
    registries: Sequence[str] = ("n1", "n2")
    environment: Mapping[str, str] = field(default_factory=dict)
    release: str = RELEASE
    catalog: str = ""  # folder on the builder; empty: perimeter's own

    @property
    def built(self) -> str:
        """Where the builder has the bundle."""
        return f"{BUNDLES}/{self.release}"

    @property
    def carried(self) -> str:
        """Where the jump host has the bundle."""
        return f"{CARRIED}/{self.release}"

    @property
    def lock_file(self) -> str:
        """The release's lock on the builder."""
        return LOCK if self.release == RELEASE else f"/srv/{self.release}.lock"

    # --- the connected side -------------------------------------------------------------------

    def install_builder(self) -> None:
        """perimeter-bundle on the builder, from a package index, as its documentation says."""
        builder = self.lab.node("builder")
        wheel = self.wheels.perimeter
        pip = self.wheels.pip
        builder.run(["mkdir", "-p", "/srv/keys", "/srv/bundles", "/root/wheels"])
        for path in (wheel, pip, self.wheels.requirements):
            builder.push(path, f"/root/wheels/{path.name}")
        script = (
            f"python3 -m venv --clear --without-pip {BUILDER_VENV}\n"
            f"PYTHONPATH=/root/wheels/{pip.name} {BUILDER_VENV}/bin/python -m pip install --quiet "
            f"/root/wheels/{pip.name}\n"
            f"{BUILDER_VENV}/bin/pip install --quiet --require-hashes --only-binary :all: "
            f"-r /root/wheels/{self.wheels.requirements.name}\n"
            f"{BUILDER_VENV}/bin/pip install --quiet --no-deps /root/wheels/{wheel.name}\n"
        )
        builder.run(script, env=self.index_environment(), timeout_s=600, stream=self.on_line)

    def bundle(self, *arguments: str, check: bool = True, timeout_s: float = 1800) -> Result:
        """``perimeter-bundle …`` on the builder."""
        return self.lab.node("builder").run(
            [f"{BUILDER_VENV}/bin/perimeter-bundle", *arguments],
            env=self.builder_environment(),
            timeout_s=timeout_s,
            check=check,
            stream=self.on_line,
        )

    def plan(self) -> Result:
        return self.bundle("plan", *self._release(), "--lock", self.lock_file)

    def lock(self, *more: str) -> Result:
        """What was compiled in an earlier lab is brought, what is compiled now is kept."""
        builder, kept = self.lab.node("builder"), cache_folder() / "compiled"
        if kept.is_dir():
            builder.push(kept, BUILD_CACHE)
        done = self.bundle("lock", *self._release(), "--out", self.lock_file, *more)
        if builder.run(["test", "-d", BUILD_CACHE], check=False).returncode == 0:
            shutil.rmtree(kept, ignore_errors=True)
            builder.pull(BUILD_CACHE, kept)
        return done

    def build(self, *more: str, check: bool = True) -> Result:
        return self.bundle(
            "build", *self._release(), "--lock", self.lock_file, "--out", self.built,
            *more, check=check,
        )  # fmt: skip

    def sign(self) -> Result:
        if self.lab.node("builder").run(["test", "-e", KEY], check=False).returncode != 0:
            self.bundle("keygen", "--out", KEY)
        return self.bundle("sign", self.built, "--key", KEY)

    def _release(self) -> list[str]:
        catalog = ["--catalog", self.catalog] if self.catalog else []
        return [self.release, "--ca-file", UPSTREAM_CA, *catalog]

    def build_signed_bundle(self) -> None:
        """From nothing to a signed bundle on the builder."""
        self.install_builder()
        self.lock()
        self.plan()
        self.build()
        self.sign()
        self.bundle("verify", self.built, "--trust", PUBLIC_KEY)

    def carry(self) -> float:
        """The bundle on a disc; the public key by another road. Gives back seconds."""
        self.lab.node("jump").run(["mkdir", "-p", TRUST, CARRIED])
        seconds = self.lab.carry(self.built, "builder", "jump", self.carried)
        key = self.lab.node("builder").run(["cat", PUBLIC_KEY]).stdout
        self.lab.node("jump").run(["sh", "-c", f"cat > {TRUST}/builder.pub"], input=key)
        return seconds

    # --- the closed side ----------------------------------------------------------------------

    def jump(
        self, command: str, *, check: bool = True, timeout_s: float = 1800, **options: Any
    ) -> Result:
        """A shell command on the jump host."""
        return self.lab.node("jump").run(
            command, check=check, timeout_s=timeout_s, stream=self.on_line, **options
        )

    def verify_script(self, *, check: bool = True) -> Result:
        """openssl and sha256sum alone."""
        return self.jump(f"sh {self.carried}/verify.sh {TRUST}/builder.pub", check=check)

    def bootstrap(self) -> Result:
        return self.jump(f"sh {self.carried}/bootstrap.sh")

    def init(self) -> Result:
        """site.yaml for this lab, host keys pinned."""
        hosts = []
        for name in sorted({*self.control_planes, *self.workers, *self.registries}):
            groups = [
                group
                for group, names in (
                    ("registry", self.registries),
                    ("control_plane", self.control_planes),
                    ("worker", self.workers),
                )
                if name in names
            ]
            hosts.append(f"--host {name}={self.lab.node(name).address}:{','.join(groups)}")
        return self.jump(
            f"perimeter-install init --site {SITE} --name lab --ssh-user admin "
            f"--ssh-key /root/.ssh/id_ed25519 --no-dns --yes {' '.join(hosts)}"
        )

    def install(
        self, verb: str, *arguments: str, check: bool = True, bundle: bool = True
    ) -> Result:
        """``perimeter-install VERB`` on the jump host."""
        words = ["perimeter-install", verb, "--site", SITE]
        words += ["--bundle", self.carried] if bundle else []
        return self.lab.node("jump").run(
            [*words, *arguments], check=check, timeout_s=3000, stream=self.on_line,
            env=self.environment,
        )  # fmt: skip

    def install_json(
        self, verb: str, *arguments: str, check: bool = True, bundle: bool = True
    ) -> Any:
        """The same with ``--json``, its result as a value."""
        return json.loads(
            self.install(verb, "--json", *arguments, check=check, bundle=bundle).stdout
        )

    def fetch_report(self, to: Path) -> Path:
        """The HTML report of the last check, copied out of the lab."""
        to.mkdir(parents=True, exist_ok=True)
        self.lab.node("jump").pull(f"{REPORTS}/report.html", to / "report.html")
        return to / "report.html"

    def kubectl(self, *arguments: str, node: str = "n1", check: bool = True) -> Result:
        return self.lab.node(node).run(
            ["kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", *arguments],
            check=check,
            timeout_s=120,
        )

    def index_environment(self) -> dict[str, str]:
        return {
            "PIP_INDEX_URL": "https://wheels.upstream.test/simple",
            "PIP_CERT": UPSTREAM_CA,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def builder_environment(self) -> dict[str, str]:
        """What a user of the builder sets: indexes, and where compiled images are kept."""
        return self.index_environment() | {
            "GOPROXY": f"https://{PROXY_HOST}",
            "GOSUMDB": "off",  # the catalog's sum and go.sum pin everything
            "PERIMETER_BUILD_CACHE": BUILD_CACHE,
        }
