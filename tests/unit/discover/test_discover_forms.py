"""Forms in which images are written, none of them one product's: found, or left alone."""

from __future__ import annotations

import base64
import json
import textwrap

import pytest

from perimeter_bundle.discover.discover import discover
from perimeter_bundle.discover.values import Discovery

DIGEST = "sha256:" + "ab" * 32


def discovered(text: str) -> Discovery:
    return discover([("test", textwrap.dedent(text).encode())])


def images(text: str) -> set[str]:
    found = discovered(text)
    assert [str(one) for one in found.unclassified] == []
    return {str(reference) for reference in found.references()}


def config_map(data: dict[str, str], name: str = "c") -> str:
    return json.dumps({"kind": "ConfigMap", "metadata": {"name": name}, "data": data})


def pod(container: dict[str, object]) -> str:
    return json.dumps(
        {"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [container]}}
    )


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--sidecar-image=quay.io/a/b:1.2"], {"quay.io/a/b:1.2"}),
        (["--helper-image", "busybox"], {"docker.io/library/busybox:latest"}),
        (["-git-image", "ghcr.io/a/git:v1", "-nop-image", "ghcr.io/a/nop:v2"], None),
        (["--reloader=quay.io/a/reloader:v0.1"], {"quay.io/a/reloader:v0.1"}),
        (["--engine-image", "acme/engine:v1.5.1"], {"docker.io/acme/engine:v1.5.1"}),
        (["--set", "web.image=acme/web:2.0"], {"docker.io/acme/web:2.0"}),
        ([f"--shell-image=gcr.io/a/sh@{DIGEST}"], {f"gcr.io/a/sh@{DIGEST}"}),
        (["--web-image=acme/web", "--web-tag=3"], {"docker.io/acme/web:3"}),
        (["sh", "-c", "set -e\ndocker pull acme/tool:1\necho done"], {"docker.io/acme/tool:1"}),
        (["sh", "-c", "kubectl run x --image=quay.io/a/x:1 --rm"], {"quay.io/a/x:1"}),
        (["--images=a=quay.io/a/a:1,b=quay.io/a/b:2"], {"quay.io/a/a:1", "quay.io/a/b:2"}),
    ],
)
def test_arguments(arguments: list[str], wanted: set[str] | None) -> None:
    for field in ("args", "command"):
        found = images(pod({"name": "c", field: arguments}))
        assert found == (wanted or {"ghcr.io/a/git:v1", "ghcr.io/a/nop:v2"})


@pytest.mark.parametrize(
    "arguments",
    [
        ["--image-pull-policy=Always", "--image-gc-high-threshold=85"],
        ["--listen=0.0.0.0:8080", "--url=http://quay.io/a/b:1", "--log=default:info"],
        ["--registry=quay.io/acme", "--image-repository=registry.k8s.io"],
        ["--config=/etc/a/b.yaml:1", "--peer", "db.svc.cluster.local:5432"],
        ["--image-type=png", "--enable-image-streams=true"],
    ],
)
def test_arguments_that_are_no_images(arguments: list[str]) -> None:
    assert images(pod({"name": "c", "args": arguments})) == set()


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("WORKER_IMAGE", "busybox", {"docker.io/library/busybox:latest"}),
        ("RELATED_IMAGE_TAG_CACHE_SERVER", f"quay.io/a/b@{DIGEST}", {f"quay.io/a/b@{DIGEST}"}),
        (
            "BROKER_IMAGES",
            "3.5.0=quay.io/a/k:0.1-3.5.0\n3.5.1=quay.io/a/k:0.1-3.5.1\n",
            {"quay.io/a/k:0.1-3.5.0", "quay.io/a/k:0.1-3.5.1"},
        ),
        ("RELATED_IMAGE_DB", "postgres:12", {"docker.io/library/postgres:12"}),
        ("LOCAL_IMAGE", "127.0.0.1:5000/a/b:1", {"127.0.0.1:5000/a/b:1"}),
        ("SOMETHING", "registry.acme.io:5000/x/y:1.0", {"registry.acme.io:5000/x/y:1.0"}),
        ("IMAGE_PULL_POLICY", "Always", set()),
        ("SERVER", "quay.io", set()),
        ("ENDPOINT", "minio.ns.svc:9000/bucket", set()),
    ],
)
def test_environment(name: str, value: str, wanted: set[str]) -> None:
    assert images(pod({"name": "c", "env": [{"name": name, "value": value}]})) == wanted


def test_two_variables_make_one_image() -> None:
    env = [{"name": "PROXY_IMAGE", "value": "acme/p"}, {"name": "PROXY_IMAGE_TAG", "value": "v7"}]
    assert images(pod({"name": "c", "env": env})) == {"docker.io/acme/p:v7"}


def test_an_argument_stands_for_a_variable() -> None:
    container: dict[str, object] = {
        "name": "c",
        "env": [{"name": "TOOL_IMAGE", "value": "quay.io/a/tool:5"}],
        "args": ["--tool-image=$(TOOL_IMAGE)"],
    }
    assert images(pod(container)) == {"quay.io/a/tool:5"}


@pytest.mark.parametrize(
    ("document", "wanted"),
    [
        ({"hub": "gcr.io/a", "tag": "1", "proxy": {"image": "p"}}, {"gcr.io/a/p:1"}),
        (
            {"hub": "gcr.io/a", "tag": "1", "x": {"hub": "quay.io/b", "tag": "2", "image": "p"}},
            {"quay.io/b/p:2"},
        ),
        ({"global": {"hub": "gcr.io/a", "tag": "1"}, "pilot": {"image": "p"}}, {"gcr.io/a/p:1"}),
        ({"image": "acme/x", "defaultImageVersion": "v2"}, {"docker.io/acme/x:v2"}),
        ({"repository": "nvcr.io/n", "image": "d", "version": "1.2"}, {"nvcr.io/n/d:1.2"}),
        ({"repository": "nvcr.io/n", "image": "d", "version": DIGEST}, {f"nvcr.io/n/d@{DIGEST}"}),
        (
            {"image": {"registry": "quay.io", "repository": "a/b", "tag": "v1"}},
            {"quay.io/a/b:v1"},
        ),
        ({"image": {"repository": "a/b", "tag": "v1", "digest": DIGEST}}, None),
        ({"images": [{"name": "old", "newName": "quay.io/a/new", "newTag": "3"}]}, None),
        ({"baseImage": "quay.io/a/b", "tag": "v9"}, {"quay.io/a/b:v9"}),
        ({"sidecarImage": "a/b", "sidecarImageTag": "2"}, {"docker.io/a/b:2"}),
        ({"image": {"prefix": "acme", "name": "a", "tag": "1a2b"}}, {"docker.io/acme/a:1a2b"}),
        ({"image": "quay.io/a/b:1", "version": "9"}, {"quay.io/a/b:1"}),
    ],
)
def test_references_split_over_fields(document: dict[str, object], wanted: set[str] | None) -> None:
    inside = config_map({"values.yaml": json.dumps(document)})
    resource = json.dumps({"kind": "Thing", "metadata": {"name": "t"}, "spec": document})
    found = images(inside)
    assert found == images(resource)
    assert len(found) == 1
    assert wanted is None or found == wanted


@pytest.mark.parametrize(
    "document",
    [
        {"repository": "https://charts.acme.io", "version": "1.2.3", "chart": "x"},
        {"repo": "https://github.com/a/b", "tag": "v1"},
        {"image": ""},
        {"runtimes": [{"kind": "go:1.11"}]},
        {"pickImage": "true", "hideRegistry": "true", "hideTag": "false"},
        {"image": "", "repository": "", "version": ""},
        {"imageType": "png", "profileimage": "me", "imagePullPolicy": "Always"},
        {"properties": {"image": {"type": "string"}}, "required": ["image", "name"]},
        {"image": {"enabled": True, "value": "auto"}},
        {"logo": {"image": "https://a.io/x.png", "imageUrl": "data:image/png;base64,AAAA"}},
        {"verbs": ["get"], "resources": ["images/status"], "apiGroups": ["a.io/v1"]},
    ],
)
def test_fields_that_name_no_image(document: dict[str, object]) -> None:
    assert images(config_map({"c.yaml": json.dumps(document)})) == set()
    resource = json.dumps({"kind": "Thing", "metadata": {"name": "t"}, "spec": document})
    assert images(resource) == set()


def test_one_registry_and_tag_serve_several_names() -> None:
    names = {
        "DOCKER_REPO": "docker.io/acme",
        "DOCKER_TAG": "v3",
        "WEB_IMAGE": "web",
        "X_IMAGE": "x",
    }
    env = [{"name": name, "value": value} for name, value in names.items()]
    assert images(pod({"name": "c", "env": env})) == {
        "docker.io/acme/web:v3",
        "docker.io/acme/x:v3",
    }


def test_versions_of_variants_of_an_image() -> None:
    text = '{"image": "a/b", "defaultImageVersion": "1.0", "defaultGpuImageVersion": "1.0-gpu"}'
    assert images(config_map({"x": text})) == {"docker.io/a/b:1.0", "docker.io/a/b:1.0-gpu"}


def test_the_version_stands_beside_the_image_or_in_the_specification_around_it() -> None:
    text = '{"proxyImage": {"imageName": "quay.io/a/p"}, "proxyVersion": "v1.2"}'
    assert images(config_map({"x": text})) == {"quay.io/a/p:v1.2"}
    spec = {"version": "v1.17.4+k1", "upgrade": {"image": "acme/up"}, "db": {"baseImage": "a/db"}}
    resource = json.dumps({"kind": "Plan", "metadata": {"name": "p"}, "spec": spec})
    assert images(resource) == {"docker.io/acme/up:v1.17.4-k1", "docker.io/a/db:v1.17.4-k1"}


def test_a_template_puts_parts_together() -> None:
    image = "{{ .Values.g.hub }}/{{ .Values.g.p.image }}:{{ .Values.g.tag }}"
    template = f"x:\n {{{{ if .y }}}}\n  image: {image}\n"
    values = json.dumps({"g": {"hub": "gcr.io/a", "tag": "1.2", "p": {"image": "proxy"}}})
    assert images(config_map({"t": template, "values": values})) == {"gcr.io/a/proxy:1.2"}


def test_settings_in_toml_and_addresses_of_images() -> None:
    assert images(config_map({"c.toml": '[run]\n  image = "busybox"\n  image_type = "x"\n'})) == {
        "docker.io/library/busybox:latest"
    }
    resource = {
        "kind": "Volume",
        "metadata": {"name": "v"},
        "source": {"url": "docker://acme/disk"},
    }
    assert images(json.dumps(resource)) == {"docker.io/acme/disk:latest"}


def test_documents_in_strings_in_strings_and_in_base64() -> None:
    inner = json.dumps({"image": "quay.io/a/deep:1"})
    assert images(config_map({"x": json.dumps({"y": inner})})) == {"quay.io/a/deep:1"}
    data = {"c.yaml": base64.b64encode(b"web:\n  image: quay.io/a/secret:1\n").decode()}
    secret = json.dumps({"kind": "Secret", "metadata": {"name": "s"}, "data": data})
    found = discover([("test", secret.encode())]).images[0]
    assert str(found.reference) == "quay.io/a/secret:1"
    assert found.evidence[0].place.path == "data[c.yaml] -> web.image"


def test_lists_of_options_under_an_image() -> None:
    text = """\
        pickImage:
          value: quay.io/a/one:1
          options: [quay.io/a/one:1, acme/two:2]
          hideRegistry: true
          allowOther: IfNotPresent
    """
    assert images(config_map({"ui.yaml": textwrap.dedent(text)})) == {
        "quay.io/a/one:1",
        "docker.io/acme/two:2",
    }


def test_a_template_takes_values_from_beside_it() -> None:
    template = """\
        metadata: {{ toYaml .Labels }}
        spec:
          {{- if .X }}
          image: "{{ .Values.agent.image }}"
          {{- end }}
          initImage: {{ .Values.none.image | default "quay.io/a/init:1" }}
    """
    values = json.dumps({"agent": {"image": "quay.io/a/agent:2"}})
    found = images(config_map({"t": textwrap.dedent(template), "values": values}))
    assert found == {"quay.io/a/agent:2", "quay.io/a/init:1"}


@pytest.mark.parametrize("text", ["{{ .Image }}", "$UNSET_IMAGE", "quay.io/a/b:${UNSET}"])
def test_a_placeholder_that_nothing_resolves_is_never_dropped(text: str) -> None:
    found = discovered(pod({"name": "c", "image": text}))
    assert found.images == ()
    assert [one.text for one in found.unclassified] == [text]
    assert "no value for" in found.unclassified[0].why


def test_shell_assignments_are_filled_in() -> None:
    script = "#!/bin/sh\nVERSION=1.4\n# IMAGE=quay.io/a/comment:1\nIMAGE=quay.io/a/b:${VERSION}\n"
    assert images(config_map({"run.sh": script})) == {"quay.io/a/b:1.4"}


def test_python_source_is_read_not_guessed() -> None:
    source = '''\
        """Uses quay.io/a/docstring:1."""
        import os
        # image: quay.io/a/comment:1
        NAME = os.environ.get("FRONT_IMAGE", "quay.io/a/front")
        TAG = os.environ["FRONT_TAG"]
        def make(front_image=None, front_tag=None):
            front_image = front_image or NAME
            front_tag = front_tag or TAG
            return {"image": f"{front_image}:{front_tag}", "imagePullPolicy": "Always"}
        print("see https://quay.io/a/url:1")
    '''
    values = config_map({"FRONT_TAG": "7.1"}, "env")
    text = config_map({"sync.py": textwrap.dedent(source)}) + "\n---\n" + values
    assert images(text) == {"quay.io/a/front:7.1"}


@pytest.mark.parametrize(
    "line",
    [
        "# image: quay.io/a/b:1",
        "see https://docs.acme.io/a:1.2 and quay.io",
        "logo: /img/x.png",
        "listen 0.0.0.0:80",
        "cache: localhost:5000",
        "at 10:30, main.go:12",
    ],
)
def test_text_that_names_no_image(line: str) -> None:
    assert images(config_map({"text": f"first line\n{line}\n"})) == set()


def test_descriptions_and_examples_name_no_image_to_pull() -> None:
    text = """\
        kind: CustomResourceDefinition
        metadata: {name: c}
        spec:
          versions:
          - schema:
              openAPIV3Schema:
                properties:
                  image: {type: string, description: "such as quay.io/a/prose:1"}
                  sideImage: {type: string, default: "quay.io/a/default:1"}
                  baseImage: {type: string, default: "quay.io/a/completed"}
                  tag: {type: string}
                  mode: {type: string, default: "auto", enum: [auto, "a/b:1"]}
        ---
        kind: ConfigMap
        metadata: {name: x}
        data:
          _example: |
            image: quay.io/a/example:1
    """
    assert images(text) == {"quay.io/a/default:1"}


@pytest.mark.parametrize("text", ["Foo/Bar:1", "quay.io/a/b:", "quay.io//b:1"])
def test_what_is_no_reference_in_the_place_of_an_image_is_a_question(text: str) -> None:
    found = discovered(json.dumps({"kind": "T", "metadata": {"name": "t"}, "image": text}))
    assert len(found.unclassified) == 1


def test_a_name_at_a_registry_without_a_tag_is_a_question() -> None:
    found = discovered(config_map({"where": "quay.io/acme/thing"}))
    assert [one.why for one in found.unclassified] == [
        "names a registry, but neither tag nor digest"
    ]


def test_parts_without_any_tag_are_a_question() -> None:
    env = [{"name": "DB_IMAGE", "value": "a/db"}, {"name": "DB_IMAGE_REGISTRY", "value": "quay.io"}]
    found = discovered(pod({"name": "c", "env": env}))
    assert found.images == ()
    assert [one.text for one in found.unclassified] == ["quay.io/a/db"]


def test_a_field_that_names_its_image_holds_a_bare_name() -> None:
    resource = {"kind": "T", "metadata": {"name": "t"}, "spec": {"moveResultsImage": "busybox"}}
    assert images(json.dumps(resource)) == {"docker.io/library/busybox:latest"}


def test_an_annotation_says_where_something_came_from() -> None:
    metadata = {"name": "t", "annotations": {"a.io/imported-from": "quay.io/a/b"}}
    assert images(json.dumps({"kind": "T", "metadata": metadata})) == set()


def test_a_list_of_prefixes_names_and_tags() -> None:
    text = '{"boxes": [{"prefix": "acme", "name": "skeleton", "tag": "1a2b3c4"}]}'
    assert images(config_map({"x": text})) == {"docker.io/acme/skeleton:1a2b3c4"}


def test_an_image_split_over_fields_of_what_is_called_a_container() -> None:
    container = {"repository": "nvcr.io/n", "image": "cuda", "version": "11.2-base"}
    resource = {"kind": "T", "metadata": {"name": "t"}, "spec": {"initContainer": container}}
    assert images(json.dumps(resource)) == {"nvcr.io/n/cuda:11.2-base"}
