"""Walking kustomizations: remote references, what is refused, and what a rewrite leaves alone."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from perimeter_bundle.format.source_tree import FileTree
from perimeter_bundle.model.errors import PerimeterError
from perimeter_bundle.sources.remote import RemoteFile, RemoteTree, parse_remote
from perimeter_bundle.sources.vendor import check_vendored, vendor

COMMIT = "c" * 40


class Shelf:
    """Repositories and files that are there already; a RemoteSource."""

    def __init__(self, trees: Mapping[str, FileTree], files: Mapping[str, bytes]) -> None:
        self.trees, self.files = trees, files

    def tree(self, remote: RemoteTree, reference: str) -> tuple[str, FileTree]:
        return COMMIT, self.trees[remote.url]

    def file(self, remote: RemoteFile, reference: str) -> bytes:
        return self.files[remote.url]


EMPTY = Shelf({}, {})


def tree(**files: str) -> dict[str, bytes]:
    """``a__b`` is ``a/b``; every name gets ``.yaml``, and ``k`` is kustomization.yaml."""
    names = {name: name.replace("__", "/") for name in files}
    return {
        (path[:-1] + "kustomization.yaml" if path.rpartition("/")[2] == "k" else f"{path}.yaml"): (
            files[name].encode()
        )
        for name, path in names.items()
    }


def refusal(files: FileTree, root: str = "a", shelf: Shelf = EMPTY) -> PerimeterError:
    with pytest.raises(PerimeterError) as caught:
        vendor(files, [root], shelf, "trees 1.0")
    return caught.value


@pytest.mark.parametrize(
    ("text", "url", "path", "ref"),
    [
        ("https://github.com/o/r/p/q?ref=v1", "https://github.com/o/r", "p/q", "v1"),
        ("https://github.com/o/r//p?ref=v1", "https://github.com/o/r", "p", "v1"),
        ("github.com/o/r//p?version=v1", "https://github.com/o/r", "p", "v1"),
        ("github.com/o/r?ref=a&version=b", "https://github.com/o/r", "", "a"),
        ("git::https://git.example/o/r.git/p", "https://git.example/o/r.git", "p", ""),
        ("git@github.com:o/r//p?ref=v1", "https://github.com/o/r", "p", "v1"),
        ("ssh://git@git.example/o/r.git?ref=v1", "https://git.example/o/r.git", "", "v1"),
        ("git@git.example:deep/o/r.git//p", "https://git.example/deep/o/r.git", "p", ""),
        ("https://dev.example/o/_git/r/p?ref=1", "https://dev.example/o/_git/r", "p", "1"),
        ("https://git.example:8443/o/r/p", "https://git.example:8443/o/r", "p", ""),
        ("https://github.com/o/r/f.yaml?ref=v1", "https://github.com/o/r", "f.yaml", "v1"),
    ],
)
def test_reads_every_form_of_a_remote_folder(text: str, url: str, path: str, ref: str) -> None:
    found = parse_remote(text)
    assert isinstance(found, RemoteTree)
    assert (found.url, found.path, found.ref) == (url, path, ref)


def test_reads_the_address_of_a_file() -> None:
    url = "https://github.com/o/r/releases/download/v1/manifests.yaml"
    assert parse_remote(url) == RemoteFile(url)


@pytest.mark.parametrize("text", ["pod.yaml", "../base", "./github.com/x", "a/b@c", "a//b", "x:y"])
def test_a_path_is_not_remote(text: str) -> None:
    assert parse_remote(text) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("http://example.org/x.yaml", "only https is"),
        ("file:///etc/passwd", "only https is"),
        ("https://user:secret@example.org/o/r", "it holds a user name"),
        ("https://github.com/o", "it names no repository"),
        ("https://github.com/o/r//../../x", "its path climbs out"),
        ("https://exa mple.org/o/r", "it is not an address"),
        ("https://example.org/../r/p", "it is not an address"),
        ("https://-x/o/r", "it is not an address"),
    ],
)
def test_what_is_not_fetched_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(PerimeterError) as caught:
        parse_remote(text)
    assert caught.value.code == "bad-remote"
    assert reason in caught.value.message


def test_a_circle_is_refused_and_shown() -> None:
    files = tree(a__k="resources: [../b]", b__k="bases: [../c]", c__k="components: [../a]")
    error = refusal(files)
    assert error.code == "circular-bases"
    assert error.problems == ("a → b → c → a",)


@pytest.mark.parametrize(
    ("kustomization", "reason"),
    [
        ("resources: [../../../etc/passwd]", "resources[0]: '../../../etc/passwd' climbs out"),
        ("resources: [/etc/passwd]", "'/etc/passwd' climbs out of the source"),
        ("resources: [gone.yaml]", "resources[0]: 'gone.yaml' is not there"),
        ("resources: [../empty]", "empty: there is no kustomization"),
        ("patches: [{path: ../empty}]", "patches[0].path: '../empty' is a folder"),
        ("configurations: [gone.yaml]", "configurations[0]: 'gone.yaml' is not there"),
        ("openapi: {path: gone.json}", "openapi.path: 'gone.json' is not there"),
        ("replacements: [{path: gone.yaml}]", "replacements[0].path: 'gone.yaml'"),
        ("configMapGenerator: [{name: x, envs: [gone.env]}]", "configMapGenerator[0].envs[0]"),
        ("secretGenerator: [{name: x, files: [k=gone]}]", "secretGenerator[0].files[0]: 'gone'"),
        ("helmCharts: [{name: x, repo: 'https://x'}]", "helmCharts makes kustomize run Helm"),
        ("helmChartInflationGenerator: [{chartName: x}]", "makes kustomize run Helm"),
        ("generators: [plugin.yaml]", "it is a plugin that is not built into kustomize"),
        ("transformers: [function.yaml]", "it is a function: it would run a program"),
        ("validators:\n- |\n  kind: X\n  apiVersion: y\n", "not built into kustomize"),
        ("generators: [helm.yaml]", "it makes kustomize run Helm"),
        ("generators: [reaching.yaml]", "is fetched by a plugin"),
        ("- a\n- b", "it is not a mapping"),
        ("resources: [a\n", "not YAML: "),
        ("a: 1\n---\nb: 2", "not YAML: expected a single document"),
        ("resources: [x]\nresources: [y]", "key 'resources' stands twice, again in line 2"),
        ("patches:\n- path: x\n  path: y", "key 'path' stands twice, again in line 3"),
        ("x: " + "[" * 60 + "]" * 60, "nested deeper"),
        ("x: " + "[" * 9000 + "]" * 9000, "not YAML: "),
        ("\x00", "not YAML: "),
        ("#" * 1_100_000, "bytes are more than"),
        ("patches: [{path: 'https://github.com/o/r//p'}]", "is no address of a file"),
    ],
)
def test_a_kustomization_that_cannot_be_used_is_refused(kustomization: str, reason: str) -> None:
    files = {
        **tree(a__k=kustomization),
        "empty/x.txt": b"",
        "a/plugin.yaml": b"apiVersion: someteam.example.com/v1\nkind: Exec\n",
        "a/helm.yaml": b"apiVersion: builtin\nkind: HelmChartInflationGenerator\n",
        "a/reaching.yaml": b"apiVersion: builtin\nkind: PatchTransformer\n"
        b"path: https://example.org/p.yaml\n",
        "a/function.yaml": b"apiVersion: v1\nkind: F\nmetadata:\n  annotations:\n"
        b"    config.kubernetes.io/function: |\n      container: {image: x}\n",
    }
    error = refusal(files)
    assert error.code == "bad-kustomization"
    assert reason in error.message
    assert error.message.startswith("trees 1.0: ")


def test_aliases_that_stand_for_billions_of_values_cost_nothing() -> None:
    lines = ["x0: &x0 [a, a, a, a, a, a, a, a, a, a]"]
    lines += [f"x{n}: &x{n} [" + ", ".join([f"*x{n - 1}"] * 10) + "]" for n in range(1, 12)]
    vendored = vendor(tree(a__k="\n".join(lines)), ["a"], EMPTY, "trees")
    assert len(vendored.files) == 1


def test_two_kustomizations_in_one_folder_are_refused() -> None:
    files = {"a/kustomization.yaml": b"{}", "a/Kustomization": b"{}"}
    assert "two kustomizations are there" in refusal(files).message


def test_a_tree_that_has_our_folder_already_is_refused() -> None:
    files = {**tree(a__k="{}"), "a/perimeter-remote/x": b""}
    assert "a folder called perimeter-remote is there already" in refusal(files).message


def test_a_remote_tree_cannot_refer_to_the_tree_around_it() -> None:
    shelf = Shelf(
        {"https://github.com/o/r": tree(p__k="resources: [../../../../../../a/secret.yaml]")}, {}
    )
    files = tree(a__k="resources: ['github.com/o/r//p?ref=v1']", a__secret="kind: Secret")
    assert "climbs out of the source" in refusal(files, shelf=shelf).message


def test_only_what_a_remote_kustomization_can_read_is_kept() -> None:
    repository = {
        **tree(p__k="resources: [pod.yaml]", p__pod="kind: Pod", other__k="{}"),
        "p/sub/patch.yaml": b"",
    }
    shelf = Shelf({"https://github.com/o/r": repository}, {})
    found = vendor(tree(k="resources: ['github.com/o/r//p?ref=v1']"), [""], shelf, "t")
    mount = f"perimeter-remote/github.com/o/r/{COMMIT}"
    assert sorted(found.files) == [
        "kustomization.yaml",
        f"{mount}/p/kustomization.yaml",
        f"{mount}/p/pod.yaml",
        f"{mount}/p/sub/patch.yaml",
    ]
    assert found.files["kustomization.yaml"] == f'resources: ["./{mount}/p"]'.encode()
    assert found.remote == (f"github.com/o/r//p?ref=v1 {COMMIT}",)
    check_vendored(found.files, [""], "t")


def test_remote_files_keep_their_name_where_it_becomes_a_key() -> None:
    url = "https://example.org/conf/app.yaml"
    text = f"configMapGenerator:\n- name: x\n  files: ['{url}', other={url}]\n  env: env.yaml\n"
    shelf = Shelf({}, {url: b"data"})
    found = vendor({**tree(a__k=text), "a/env.yaml": b""}, ["a"], shelf, "t")
    place = "./perimeter-remote/3a6eb0790f39/app.yaml"
    written = found.files["a/kustomization.yaml"].decode()
    assert f'files: ["app.yaml={place}", "other={place}"]' in written
    assert found.files[f"a/{place[2:]}"] == b"data"


def test_all_but_the_reference_stays_as_it_was() -> None:
    url = "https://example.org/x.yaml"
    text = f"# é first\nresources:\n  - '{url}'  # why\n  - &x {url}\n  - b.yaml\ncrds: [*x]\n"
    shelf = Shelf({}, {url: b"kind: X"})
    found = vendor(tree(a__k=text, a__b="kind: B"), ["a"], shelf, "t")
    written = found.files["a/kustomization.yaml"].decode()
    place = next(path for path in found.files if path.endswith("x.yaml"))
    quoted = f'"./{place.removeprefix("a/")}"'
    assert written == text.replace(f"'{url}'", quoted).replace(url, quoted)


def test_what_would_reach_out_is_named_before_rendering() -> None:
    files = tree(a__k="resources: [../b]", b__k="components: ['https://github.com/o/r?ref=v1']")
    with pytest.raises(PerimeterError) as caught:
        check_vendored(files, ["a"], "trees 1.0")
    assert caught.value.code == "remote-reference"
    assert "b/kustomization.yaml: components[0]" in caught.value.message
    assert "'https://github.com/o/r?ref=v1'" in caught.value.message


def test_patches_may_stand_in_the_list_itself() -> None:
    text = "patchesStrategicMerge:\n- |-\n  kind: X\n- '{kind: Y}'\n- p.yaml\ngenerators:\n- |\n"
    text += "  apiVersion: builtin\n  kind: ConfigMapGenerator\n- g\n"
    files = tree(a__k=text, a__p="kind: Z", a__g__k="resources: [x.yaml]", a__g__x="kind: X")
    assert vendor(files, ["a"], EMPTY, "t").files == files
