"""Documents: what is refused, naming file and object, and what is read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from perimeter_bundle.discover.discover import discover
from perimeter_bundle.discover.files import read_objects
from perimeter_bundle.discover.stream import MAX_DOCUMENT_BYTES, read_documents
from perimeter_bundle.model.errors import InputError

WORKLOADS = b"""\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  template:
    spec:
      initContainers: [{name: i, image: quay.io/a/init:1}]
      containers: [{name: c, image: nginx}]
      volumes: [{name: m, image: {reference: quay.io/a/model:2}}]
---
# only a comment
---
apiVersion: v1
kind: List
items:
  - kind: CronJob
    metadata: {name: nightly}
    spec: {jobTemplate: {spec: {template: {spec: {containers: [{image: quay.io/a/job:3}]}}}}}
  - kind: Pod
    metadata: {generateName: p-}
    spec: {ephemeralContainers: [{image: quay.io/a/debug:4}]}
---
kind: CustomThing
metadata: {name: c}
spec: {worker: {podTemplate: {containers: [{image: x.io/w:5}]}}}
"""


def refusal(data: bytes) -> str:
    with pytest.raises(InputError) as caught:
        list(read_documents("app/web", data))
    assert caught.value.code == "bad-manifest-file"
    assert caught.value.message.startswith("app/web")
    return str(caught.value)


def test_finds_images_of_every_pod_specification_and_names_the_place() -> None:
    found = {
        str(one.reference): str(one.evidence[0].place)
        for one in discover([("app/web", WORKLOADS)]).images
    }
    assert found == {
        "quay.io/a/init:1": (
            "app/web: Deployment/shop/web spec.template.spec.initContainers[0].image"
        ),
        "docker.io/library/nginx:latest": (
            "app/web: Deployment/shop/web spec.template.spec.containers[0].image"
        ),
        "quay.io/a/model:2": (
            "app/web: Deployment/shop/web spec.template.spec.volumes[0].image.reference"
        ),
        "quay.io/a/job:3": (
            "app/web: CronJob/nightly spec.jobTemplate.spec.template.spec.containers[0].image"
        ),
        "quay.io/a/debug:4": "app/web: Pod/p- spec.ephemeralContainers[0].image",
        "x.io/w:5": "app/web: CustomThing/c spec.worker.podTemplate.containers[0].image",
    }


def test_a_bomb_of_aliases_is_refused_and_not_walked() -> None:
    bomb = b"kind: Bomb\nmetadata:\n  name: b\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for number in range(1, 12):
        alias = b"*a%d" % (number - 1)
        bomb += b"a%d: &a%d [%s]\n" % (number, number, b", ".join([alias] * 10))
    assert "(Bomb/b): line" in refusal(bomb)


def test_an_honest_alias_and_a_merge_are_read() -> None:
    text = b"""\
kind: Pod
metadata: {name: p}
base: &base {name: c, image: quay.io/a/b:1}
spec: {containers: [*base, {<<: *base, image: quay.io/a/c:1}]}
"""
    found = discover([("x", text)]).references()
    assert [str(one) for one in found] == ["quay.io/a/b:1", "quay.io/a/c:1"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"kind: A\nmetadata:\n  name: n\nx: 1\nx: 2\n", ["(A/n): line 5: key 'x' stands twice"]),
        (b'{"kind": "A", "x": 1, "x": 2}', ["key 'x' stands twice"]),
        (b"kind: A\n? {a: b}\n: c\n", ["line 2: a key is not a string"]),
        (b"kind: A\nx: [1,\n", ["is not YAML"]),
        (b"<html>log in</html>: [", ["is not YAML"]),
        (b"kind: A\nx: a\x00b\n", ["is not YAML"]),
        (b"kind: A\nx: \xff\xfe\n", ["utf-8"]),
        (b"x: &a [*a]\n", ["an alias holds itself"]),
        (b"x: *nowhere\n", ["undefined alias"]),
        (b"x: " + b"[" * 300 + b"]" * 300, ["nested deeper"]),
        (b"x: " + b"[" * 100_000, ["nest"]),
        (b'{"x": ' * 5000 + b"1" + b"}" * 5000, ["nested"]),
        (b"---\nkind: A\n---\nkind: B\nmetadata:\n  name: b\nx: [\n", ["line 3 (B/b)"]),
    ],
)
def test_what_cannot_be_read_is_refused_by_file_and_object(text: bytes, words: list[str]) -> None:
    message = refusal(text)
    for word in words:
        assert word in message


def test_a_document_of_100_mb_is_refused_before_it_is_parsed() -> None:
    big = b"kind: ConfigMap\nmetadata:\n  name: big\ndata:\n  x: " + b"y" * (100 * 1024 * 1024)
    assert f"(ConfigMap/big): is larger than {MAX_DOCUMENT_BYTES} bytes" in refusal(big)


def test_binary_in_a_string_is_no_image_and_no_error() -> None:
    text = b'kind: A\nmetadata: {name: n}\nspec: {image: "a\\0b\\x07", x: !!binary "AAECAw=="}\n'
    found = discover([("x", text)])
    assert found.images == ()
    assert len(found.unclassified) == 1


def test_a_bomb_inside_a_string_is_text() -> None:
    inner = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"b{n}: &b{n} [{','.join([('*a' if n == 0 else f'*b{n - 1}')] * 10)}]\n" for n in range(9)
    )
    text = json.dumps({"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"b.yaml": inner}})
    assert discover([("x", text.encode())]).complete


def test_strings_in_strings_end_somewhere() -> None:
    text = "quay.io/a/b:1"
    for _ in range(12):
        text = json.dumps({"image": text})
    document = json.dumps({"kind": "A", "metadata": {"name": "n"}, "data": {"x": text}})
    assert discover([("x", document.encode())]).unused_rules == ()


def test_a_schema_that_is_missing_or_odd_is_read() -> None:
    text = b"""\
kind: CustomResourceDefinition
metadata: {name: c}
spec:
  versions:
  - {name: v1}
  - {name: v2, schema: {openAPIV3Schema: text}}
  - {name: v3, schema: {openAPIV3Schema: {properties: [], items: [a], anyOf: {}, default: []}}}
"""
    assert discover([("x", text)]).complete


def test_files_and_folders_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.yaml.gz").write_bytes(gzip.compress(WORKLOADS))
    (tmp_path / "a.json").write_text('{"kind": "Pod"}')
    (tmp_path / "README.md").write_text("image: quay.io/a/readme:1")
    (tmp_path / ".hidden.yaml").write_text("x: [")
    assert [name for name, _ in read_objects(tmp_path)] == ["a.json", "b/x.yaml.gz"]
    assert len(discover(read_objects(tmp_path)).images) == 6


@pytest.mark.parametrize("name", ["missing.yaml", "empty", "broken.yaml.gz"])
def test_what_is_no_file_of_objects_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.yaml.gz").write_bytes(b"\x1f\x8b\x08\x00broken")
    with pytest.raises(InputError) as caught:
        list(read_objects(tmp_path / name))
    assert caught.value.code in ("no-objects", "bad-manifest-file")
    assert name in caught.value.message
