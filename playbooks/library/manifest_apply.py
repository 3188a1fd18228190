#!/usr/bin/python
"""Objects are in the cluster as given, applied in the order in which they can work."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: manifest_apply
short_description: Kubernetes objects are applied server-side in the order of readiness
description:
  - Namespaces, then definitions, rights and configuration, workloads behind webhooks, webhooks, the
    rest. Waits in between for what the next ones need. Deletes nothing.
  - Runs on the jump host, whose Python has the installer.
options:
  kubeconfig: {description: Administrator's access to the cluster., type: path, required: true}
  files: {description: Files of YAML documents., type: list, elements: path, default: []}
  objects: {description: Objects given here., type: list, elements: dict, default: []}
  overlays:
    description: Objects merged over those of the same kind, namespace and name.
    type: list
    elements: dict
    default: []
  namespace: {description: For namespaced objects that name none., type: str, default: ""}
  wait: {description: Until workloads are rolled out., type: bool, default: true}
  timeout_s: {description: Bound of each single wait., type: int, default: 300}
author: [perimeter]
"""

RETURN = r"""
created: {description: Objects that were made., type: list, elements: str, returned: always}
configured: {description: Objects that were changed., type: list, elements: str, returned: always}
unchanged: {description: Objects that were right., type: list, elements: str, returned: always}
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "kubeconfig": {"type": "path", "required": True},
            "files": {"type": "list", "elements": "path", "default": []},
            "objects": {"type": "list", "elements": "dict", "default": []},
            "overlays": {"type": "list", "elements": "dict", "default": []},
            "namespace": {"type": "str", "default": ""},
            "wait": {"type": "bool", "default": True},
            "timeout_s": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    try:
        from perimeter_bundle.model.errors import PerimeterError
        from perimeter_installer.run.cluster import api_cluster
        from perimeter_installer.run.kube_objects import (
            check_objects,
            read_objects,
            with_overlays,
        )
        from perimeter_installer.run.manifest_apply import ApplyRequest, apply_objects
    except ImportError as error:
        module.fail_json(msg=f"runs on the jump host, with the installer's Python only: {error}")
    options = module.params
    try:
        objects = check_objects(options["objects"], "objects")
        for name in options["files"]:
            objects += read_objects([Path(name).read_bytes()], name)
        request = ApplyRequest(
            objects=with_overlays(objects, check_objects(options["overlays"], "overlays")),
            namespace=options["namespace"],
            wait=options["wait"],
            timeout_s=options["timeout_s"],
            check=module.check_mode,
        )
        with api_cluster(Path(options["kubeconfig"])) as cluster:
            result = apply_objects(cluster, request)
    except PerimeterError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"cannot read {error.filename}: {error.strerror}")
    module.exit_json(
        changed=result.changed,
        created=result.created,
        configured=result.configured,
        unchanged=result.unchanged,
    )


if __name__ == "__main__":
    main()
