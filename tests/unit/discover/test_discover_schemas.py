"""What the schema of a custom resource says of its fields; odd and hostile schemas first."""

from __future__ import annotations

import json

import pytest

from perimeter_bundle.discover.discover import discover
from perimeter_bundle.discover.values import Discovery
from perimeter_bundle.discover.waiting import MAX_WAITING_VALUES

IMAGE = {"type": "string", "description": "Container image to run"}


def definition(schema: object, version: str = "v1", kind: str = "Press") -> bytes:
    versions = [{"name": version, "schema": {"openAPIV3Schema": schema}}]
    spec = {"group": "example.com", "names": {"kind": kind}, "versions": versions}
    return json.dumps(
        {"kind": "CustomResourceDefinition", "metadata": {"name": kind}, "spec": spec}
    ).encode()


def resource(spec: object, version: str = "v1", kind: str = "Press") -> bytes:
    return json.dumps(
        {
            "apiVersion": f"example.com/{version}",
            "kind": kind,
            "metadata": {"name": "p"},
            "spec": spec,
        }
    ).encode()


def spec_with(**properties: object) -> dict[str, object]:
    return {"properties": {"spec": {"properties": properties}}}


def found_in(*texts: bytes) -> Discovery:
    return discover((f"{number}.json", text) for number, text in enumerate(texts))


def images(*texts: bytes) -> set[str]:
    return {str(one.reference) for one in found_in(*texts).images}


@pytest.mark.parametrize(
    "schema",
    [
        "text",
        ["a", {"properties": {}}],
        {"properties": "text"},
        {"properties": {"spec": ["a"]}, "items": "text", "anyOf": [[], "a", {}]},
        {"properties": {"spec": {"properties": {"runtime": None}}}, "description": {"a": "b"}},
        {"$ref": "#/definitions/Press", "properties": {"spec": {"$ref": "#"}}},
        {"x-kubernetes-preserve-unknown-fields": True, "additionalProperties": True},
    ],
)
def test_an_odd_schema_leaves_the_rules_of_form(schema: object) -> None:
    spec = {"runtime": "acme/thing", "image": "quay.io/acme/press:1"}
    assert images(definition(schema), resource(spec)) == {"quay.io/acme/press:1"}


def test_a_definition_without_a_name_or_versions_is_read() -> None:
    for spec in (
        {},
        {"versions": "v1"},
        {"group": ["a"], "names": "Press"},
        {"versions": [1, "a"]},
    ):
        text = json.dumps({"kind": "CustomResourceDefinition", "spec": spec}).encode()
        assert found_in(text, resource({"runtime": "acme/thing"})).complete


def test_a_schema_as_deep_as_a_document_may_be_is_read() -> None:
    schema: dict[str, object] = {"properties": {"runtime": IMAGE}}
    spec: dict[str, object] = {"runtime": "acme/deep"}
    for _ in range(60):
        schema, spec = {"properties": {"next": schema}}, {"next": spec}
    whole = {"properties": {"spec": schema}}
    assert images(definition(whole), resource(spec)) == {"docker.io/acme/deep:latest"}


def test_a_resource_deeper_than_its_schema_is_read_by_form() -> None:
    spec = {"runtime": {"runtime": {"runtime": "acme/deeper"}}}
    assert images(definition(spec_with(runtime=IMAGE)), resource(spec)) == set()


def test_schemas_inside_each_choice_count() -> None:
    schema = {
        "anyOf": [{"properties": {"spec": {"oneOf": [spec_with(runtime=IMAGE)["properties"]]}}}]
    }
    schema["anyOf"][0]["properties"]["spec"]["oneOf"] = [{"properties": {"runtime": IMAGE}}]
    spec = {"runtime": "acme/chosen"}
    assert images(definition(schema), resource(spec)) == {"docker.io/acme/chosen:latest"}


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_definition_and_resource_does_not_matter(order: int) -> None:
    texts = [definition(spec_with(runtime=IMAGE)), resource({"runtime": "acme/press"})]
    found = found_in(*texts[::order])
    assert [str(one.reference) for one in found.images] == ["docker.io/acme/press:latest"]
    assert found.images[0].evidence[0].rule == "schema-image"
    assert found.images[0].evidence[0].place.path == "spec.runtime"


def test_another_kind_and_another_group_have_other_fields() -> None:
    text = definition(spec_with(runtime=IMAGE), kind="Other")
    assert images(text, resource({"runtime": "acme/press"})) == set()


def test_a_version_without_a_schema_of_its_own_is_read_by_another() -> None:
    text = definition(spec_with(runtime=IMAGE), version="v1beta1")
    assert images(text, resource({"runtime": "acme/press"})) == {"docker.io/acme/press:latest"}


def test_one_schema_for_all_versions_as_it_was_before_v1() -> None:
    spec = {
        "group": "example.com",
        "version": "v1",
        "names": {"kind": "Press"},
        "validation": {"openAPIV3Schema": spec_with(runtime=IMAGE)},
    }
    text = json.dumps({"kind": "CustomResourceDefinition", "spec": spec}).encode()
    assert images(text, resource({"runtime": "acme/press"})) == {"docker.io/acme/press:latest"}


def test_more_than_may_wait_is_read_by_form() -> None:
    """Memory stays flat: what has no room is walked at once, without a schema."""
    many = {"list": ["x"] * MAX_WAITING_VALUES, "image": "quay.io/acme/press:1"}
    text = definition(spec_with(runtime=IMAGE))
    found = images(resource(many), resource({"runtime": "acme/late"}), text)
    assert found == {"quay.io/acme/press:1"}


@pytest.mark.parametrize(
    "description",
    [
        "Container image to run",
        "Optional. The container image of the worker",
        "Runtime is the docker image that the worker runs.",
        "RuntimeRef specifies the OCI image",
        "Package to install, as a fully-qualified image name with registry and tag",
    ],
)
def test_a_description_that_says_image_makes_one(description: str) -> None:
    text = definition(spec_with(runtime={"type": "string", "description": description}))
    assert images(text, resource({"runtime": "acme/press"})) == {"docker.io/acme/press:latest"}


@pytest.mark.parametrize(
    "description",
    [
        "Container image pull secret",
        "Container image registry",
        "The container image's user is used when this is empty",
        "Directory inside of the container image",
        "Name of a policy for container images",
        "Docker image tag",
    ],
)
def test_a_description_that_only_speaks_of_images_makes_none(description: str) -> None:
    text = definition(spec_with(runtime={"type": "string", "description": description}))
    found = found_in(text, resource({"runtime": "acme/press"}))
    assert found.images == ()
    assert found.unclassified == ()


def test_what_an_image_field_holds_beside_images_stays_none() -> None:
    text = definition(spec_with(runtime=IMAGE))
    assert (
        images(text, resource({"runtime": "auto"}), resource({"runtime": "https://a/b"})) == set()
    )


def test_a_name_that_others_complete_is_no_image_by_itself() -> None:
    fields = spec_with(image=IMAGE, version={"type": "string"})
    spec = {"image": "acme/press", "version": "2.1"}
    assert images(definition(fields), resource(spec)) == {"docker.io/acme/press:2.1"}
