"""What explains a compiled image: its materials (CycloneDX) and its provenance (SLSA). Pure.

https://cyclonedx.org/docs/1.6/json/ and https://slsa.dev/spec/v1.0/provenance
Both are deterministic and unsigned: the bundle they lie in is signed.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping

from perimeter_bundle.format.strict_json import dump_object
from perimeter_bundle.gobuild.buildinfo import BuildInfo, LinkedModule
from perimeter_bundle.gobuild.recipe import MAKER, Recipe
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.platform import Platform

BUILD_TYPE = "urn:perimeter:go-image:1"
# names of things that have no random number: the same thing, the same name
_NAMESPACE = uuid.UUID("5e2a6f0c-0d5b-5b0e-9d0b-6d6a1f6a5c11")


def materials(recipe: Recipe, platform: Platform, info: BuildInfo, program: Digest) -> bytes:
    """CycloneDX 1.6: every module that is in the program, from what the program itself says."""
    spec = recipe.spec
    # the tree that is compiled says "(devel)"; which version it is was checked by its sum
    main = LinkedModule(info.main.path, spec.go.version, spec.go.sum)
    toolchain = LinkedModule("std", info.toolchain.removeprefix("go"), "")
    modules = [main, *info.modules, toolchain]
    root = f"{spec.reference}#{platform}"
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, f'{root} {program}')}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "bom-ref": root,
                "name": spec.reference.name,
                "version": spec.reference.tag,
                "licenses": [{"expression": spec.licence}],
                "properties": [
                    {"name": "perimeter:platform", "value": str(platform)},
                    {"name": "perimeter:recipe", "value": str(recipe.key)},
                    {"name": "perimeter:program", "value": str(program)},
                    *(
                        {"name": f"go:{key}", "value": value}
                        for key, value in info.settings
                        if value
                    ),
                ],
            }
        },
        "components": [_component(module, spec.licence, main) for module in modules],
        "dependencies": [
            {"ref": root, "dependsOn": [_purl(main)]},
            {
                "ref": _purl(main),
                "dependsOn": sorted({_purl(module) for module in modules[1:]}),
            },
        ],
    }
    return dump_object(document)


def provenance(recipe: Recipe, image: Digest, infos: Mapping[Platform, BuildInfo]) -> bytes:
    """An in-toto statement: from what, by what and how the image was made."""
    spec = recipe.spec
    linked = {
        (module.path, module.version): module for info in infos.values() for module in info.modules
    }
    main = LinkedModule(spec.go.module, spec.go.version, spec.go.sum)
    resolved = [_resource(main)]
    resolved += [_resource(linked[key]) for key in sorted(linked)]
    resolved.append({"uri": f"pkg:golang/std@{recipe.toolchain.removeprefix('go')}"})
    if recipe.base and recipe.base.digest:
        resolved.append(
            {
                "uri": f"oci://{recipe.base.without_digest()}",
                "digest": {recipe.base.digest.algorithm.value: recipe.base.digest.hex},
            }
        )
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": str(spec.reference), "digest": {image.algorithm.value: image.hex}},
        ],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"recipe": recipe.to_dict()},
                "internalParameters": {
                    str(platform): dict(info.settings) for platform, info in infos.items()
                },
                "resolvedDependencies": resolved,
            },
            # whoever runs it: the lock and the signature say who vouches for the result
            "runDetails": {"builder": {"id": f"urn:perimeter:builder:{MAKER}"}},
        },
    }
    return dump_object(statement)


def _component(module: LinkedModule, licence: str, main: LinkedModule) -> dict[str, object]:
    table: dict[str, object] = {
        "type": "application" if module == main else "library",
        "bom-ref": _purl(module),
        "name": module.path,
        "version": module.version,
        "purl": _purl(module),
    }
    if module == main:
        table["licenses"] = [{"expression": licence}]
    if module.sum:
        table["properties"] = [{"name": "go:sum", "value": module.sum}]
    return table


def _resource(module: LinkedModule) -> dict[str, object]:
    table: dict[str, object] = {"uri": _purl(module)}
    if module.sum.startswith("h1:"):
        raw = base64.b64decode(module.sum.removeprefix("h1:"))
        # https://github.com/in-toto/attestation/blob/main/spec/v1/digest_set.md
        table["digest"] = {"dirHash": raw.hex()}
    return table


def _purl(module: LinkedModule) -> str:
    """https://github.com/package-url/purl-spec: the namespace of golang is lower case."""
    version = module.version.replace("+", "%2B")
    return f"pkg:golang/{module.path.lower()}" + (f"@{version}" if version else "")
