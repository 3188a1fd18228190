#!/usr/bin/python
"""A Helm release is what the bundle says: this chart, these values, deployed and ready.

kubernetes.core.helm (6.2.0) ends each installation with ``helm list --all``, an option that Helm 4
does not have; and it knows no way out of a release whose installation was cut off.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: helm_release
short_description: A chart archive is deployed as a release with these values, and is ready
description:
  - Asks C(helm status) first. A release is left alone when it is deployed, from an archive of the
    same SHA-256, with the same values. Everything else is an upgrade that waits until ready.
  - A release that an interrupted run left pending is rolled back, or uninstalled when it was never
    deployed, before it is tried again. Volumes stay.
options:
  name: {description: Name of the release., type: str, required: true}
  namespace: {description: Its namespace; made when missing., type: str, required: true}
  chart: {description: The chart archive on this host., type: path, required: true}
  sha256: {description: SHA-256 of the archive., type: str, required: true}
  values: {description: All values that differ from the chart's., type: dict, default: {}}
  helm: {description: The helm program (version 4)., type: path, required: true}
  kubeconfig: {description: Administrator's access to the cluster., type: path, required: true}
  timeout_s: {description: Bound of the wait for readiness., type: int, default: 300}
author: [perimeter]
"""

RETURN = r"""
status:
  description: Status, revision and chart of the release before this task.
  type: dict
  returned: always
"""

DESCRIPTION = "chart archive sha256:"
PENDING = ("pending-install", "pending-upgrade", "pending-rollback", "uninstalling")


def judge(release, description: str, values) -> str:
    """What is to be done: nothing, install, upgrade, rollback or uninstall (both, then upgrade)."""
    if release is None:
        return "install"
    info = release.get("info", {})
    status = info.get("status", "unknown")
    if status == "pending-install" or status == "uninstalling":
        return "uninstall"
    if status in PENDING:
        return "rollback"
    same = info.get("description") == description and (release.get("config") or {}) == values
    return "nothing" if status == "deployed" and same else "upgrade"


class Helm:
    """The program with its own empty home: nobody's plugins, repositories or registry logins."""

    def __init__(self, module, home: str) -> None:
        self._module, options = module, module.params
        self._program = options["helm"]
        self._common = ["--namespace", options["namespace"], "--kubeconfig", options["kubeconfig"]]
        self._environment = {
            "HELM_CACHE_HOME": str(Path(home, "cache")),
            "HELM_CONFIG_HOME": str(Path(home, "config")),
            "HELM_DATA_HOME": str(Path(home, "data")),
            "HOME": home,
        }

    def run(self, *arguments: str):
        """Status, output and errors of ``helm arguments``."""
        command = [self._program, *arguments, *self._common]
        return self._module.run_command(command, environ_update=self._environment)

    def must(self, *arguments: str) -> str:
        """Output of ``helm arguments``; ends the module when it fails."""
        status, output, errors = self.run(*arguments)
        if status != 0:
            self._module.fail_json(
                msg=f"helm {arguments[0]} {arguments[1]} failed: {(errors or output).strip()}"
            )
        return output

    def release(self, name: str):
        """The release as ``helm status`` tells it; None when there is none."""
        status, output, errors = self.run("status", name, "--output", "json")
        if status == 0:
            return json.loads(output)
        if "not found" in errors:
            return None
        self._module.fail_json(msg=f"helm status {name} failed: {errors.strip()}")
        return None


def sha256_of(path: str) -> str:
    """SHA-256 of a file."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_private(path: str, text: str) -> None:
    """Writes a file nobody else can read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)


def deploy(helm: Helm, options, home: str, action: str, description: str) -> None:
    """Brings the release to the wanted state."""
    name, timeout = options["name"], f"{options['timeout_s']}s"
    if action == "uninstall":
        helm.must("uninstall", name, "--wait", "--timeout", timeout)
    if action == "rollback":
        helm.must("rollback", name, "--wait", "--timeout", timeout)
    values_file = str(Path(home, "values.json"))
    write_private(values_file, json.dumps(options["values"]))
    helm.must(
        "upgrade", name, options["chart"], "--install", "--create-namespace", "--reset-values",
        "--values", values_file, "--description", description,
        "--wait", "--timeout", timeout, "--history-max", "5",
    )  # fmt: skip


def main() -> None:
    """Runs as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "namespace": {"type": "str", "required": True},
            "chart": {"type": "path", "required": True},
            "sha256": {"type": "str", "required": True},
            "values": {"type": "dict", "default": {}},
            "helm": {"type": "path", "required": True},
            "kubeconfig": {"type": "path", "required": True},
            "timeout_s": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    options = module.params
    found = sha256_of(options["chart"])
    if found != options["sha256"]:
        module.fail_json(
            msg=f"{options['chart']} is not the chart of the bundle: "
            f"expected sha256 {options['sha256']}, got {found}"
        )
    # through JSON and back: what helm gives back is compared as it was given
    values = options["values"] = json.loads(json.dumps(options["values"]))
    description = DESCRIPTION + options["sha256"]
    with tempfile.TemporaryDirectory(dir=module.tmpdir) as home:
        helm = Helm(module, home)
        release = helm.release(options["name"])
        action = judge(release, description, values)
        if action != "nothing" and not module.check_mode:
            deploy(helm, options, home, action, description)
    before = (release or {}).get("config") or {}
    module.exit_json(
        changed=action != "nothing",
        action=action,
        status={
            "status": (release or {}).get("info", {}).get("status", "absent"),
            "revision": (release or {}).get("version", 0),
        },
        diff={"before": before, "after": values},
    )


if __name__ == "__main__":
    main()
