"""Sources from a real git server over TLS: what is fetched, and everything that is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.git_server import GitServer

from perimeter_bundle.catalog.values import SourceSpec
from perimeter_bundle.format.source_tree import unpack_tree
from perimeter_bundle.model.errors import InputError, IntegrityError, NetworkError, PerimeterError
from perimeter_bundle.sources import git_tree
from perimeter_bundle.sources.fetch import FetchedSource, fetch_source
from perimeter_bundle.sources.vendor import remote_pins

HOSTS = ("github.com", "git.example")
FILES = {
    "app/kustomization.yaml": "resources: [pod.yaml]\n",
    "app/pod.yaml": "kind: Pod\n",
    "docs/readme.md": "not needed\n",
    "LICENSE": "free\n",
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path / "server") as running:
        yield running


def source_of(commit: str, **changes: object) -> SourceSpec:
    source = SourceSpec(
        name="trees",
        licence="MIT",
        git="https://git.example/org/trees",
        tag="1.0",
        commit=commit,
        keep=(),
        alternates=(),
    )
    return replace(source, **changes)  # type: ignore[arg-type]


def fetched(
    server: GitServer,
    source: SourceSpec,
    tmp_path: Path,
    roots: tuple[str, ...] = ("app",),
    **more: object,
) -> FetchedSource:
    return fetch_source(source, roots, server.fetcher(*HOSTS), tmp_path / "work", **more)  # type: ignore[arg-type]


def refusal(
    server: GitServer,
    source: SourceSpec,
    tmp_path: Path,
    roots: tuple[str, ...] = ("app",),
    **more: object,
) -> PerimeterError:
    with pytest.raises(PerimeterError) as caught:
        fetched(server, source, tmp_path, roots, **more)
    return caught.value


def test_fetches_what_is_kept_at_the_commit_and_packs_it_the_same_each_time(
    server: GitServer, tmp_path: Path
) -> None:
    commit = server.publish("git.example/org/trees", FILES, "1.0")
    source = source_of(commit, keep=("app",))
    first, again = fetched(server, source, tmp_path), fetched(server, source, tmp_path)
    assert first.archive == again.archive
    assert sorted(unpack_tree(first.archive, "x")) == [
        "LICENSE",
        "app/kustomization.yaml",
        "app/pod.yaml",
    ]
    assert list((tmp_path / "work").iterdir()) == []


def test_a_tag_that_moved_is_refused_naming_both_commits(server: GitServer, tmp_path: Path) -> None:
    before = server.publish("git.example/org/trees", FILES, "1.0")
    now = server.publish("git.example/org/trees", {**FILES, "app/pod.yaml": "kind: Other\n"}, "1.0")
    error = refusal(server, source_of(before), tmp_path)
    assert isinstance(error, IntegrityError)
    assert error.code == "tag-moved"
    assert (error.context["expected"], error.context["got"]) == (before, now)


def test_a_commit_is_built_though_its_tag_moved_when_tags_are_not_asked(
    server: GitServer, tmp_path: Path
) -> None:
    before = server.publish("git.example/org/trees", FILES, "1.0")
    server.publish("git.example/org/trees", {"other": "x"}, "1.0")
    found = fetched(server, source_of(before), tmp_path, check_tag=False)
    assert found.tree.files["app/pod.yaml"] == b"kind: Pod\n"


def test_a_server_that_gives_no_commits_by_id_is_asked_for_the_tag(
    server: GitServer, tmp_path: Path
) -> None:
    commit = server.publish("git.example/org/trees", FILES, "1.0")
    server.publish("git.example/org/trees", {"later": "x"})
    server.refuses_commits = True
    assert "app/pod.yaml" in fetched(server, source_of(commit), tmp_path).tree.files


def test_alternates_are_tried_in_order(server: GitServer, tmp_path: Path) -> None:
    commit = server.publish("git.example/mirror/trees", FILES, "1.0")
    source = source_of(commit, alternates=("https://git.example/mirror/trees",))
    assert "app/pod.yaml" in fetched(server, source, tmp_path).tree.files


def test_a_source_that_is_gone_everywhere_names_every_address(
    server: GitServer, tmp_path: Path
) -> None:
    server.down = True
    source = source_of("0" * 40, alternates=("https://git.example/mirror/trees",))
    error = refusal(server, source, tmp_path)
    assert isinstance(error, NetworkError)
    assert error.code == "source-gone"
    for path in ("org/trees", "mirror/trees"):
        assert any(f"/git.example/{path}" in problem for problem in error.problems)


def test_a_tag_that_is_gone_is_told(server: GitServer, tmp_path: Path) -> None:
    commit = server.publish("git.example/org/trees", FILES, "1.0")
    error = refusal(server, source_of(commit, tag="2.0"), tmp_path)
    assert any("has no tag or branch '2.0'" in problem for problem in error.problems)


def test_a_certificate_that_is_not_trusted_is_refused(server: GitServer, tmp_path: Path) -> None:
    commit = server.publish("git.example/org/trees", FILES, "1.0")
    fetcher = server.fetcher(*HOSTS)
    fetcher.settings = replace(fetcher.settings, ca_file=None)
    with pytest.raises(NetworkError) as caught:
        fetch_source(source_of(commit), ["app"], fetcher, tmp_path / "work")
    assert "certificate" in "".join(caught.value.problems)


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("../../../etc/passwd", "leads out of the tree"),
        ("/etc/passwd", "leads out of the tree"),
        ("nowhere", "which is not in the tree"),
        ("link.yaml", "leads to itself"),
    ],
)
def test_a_link_that_leaves_the_tree_is_refused(
    server: GitServer, tmp_path: Path, link: str, reason: str
) -> None:
    commit = server.publish("git.example/org/trees", FILES, "1.0", links={"app/link.yaml": link})
    error = refusal(server, source_of(commit), tmp_path)
    assert error.code == "bad-source"
    assert "'app/link.yaml'" in error.message
    assert reason in error.message


def test_a_link_inside_the_tree_becomes_a_copy(server: GitServer, tmp_path: Path) -> None:
    links = {"app/link.yaml": "pod.yaml", "copy": "app"}
    commit = server.publish("git.example/org/trees", FILES, "1.0", links=links)
    files = fetched(server, source_of(commit), tmp_path).tree.files
    assert files["app/link.yaml"] == files["copy/pod.yaml"] == b"kind: Pod\n"


def test_few_objects_that_stand_for_very_many_files_are_refused(
    server: GitServer, tmp_path: Path
) -> None:
    server.publish("git.example/org/trees", FILES, "1.0")
    work = server.root / "git.example/org/trees"
    oid = server.git(work, "hash-object", "-w", "--stdin", data=b"x")
    lines = "".join(f"100644 blob {oid}\tf{n}\n" for n in range(10))
    for _ in range(9):  # 10^10 files of a dozen objects
        tree = server.git(work, "mktree", data=lines.encode())
        lines = "".join(f"040000 tree {tree}\td{n}\n" for n in range(10))
    tree = server.git(work, "mktree", data=lines.encode())
    commit = server.git(work, "commit-tree", tree, "-m", "bomb")
    server.git(work, "tag", "--force", "1.0", commit)
    error = refusal(server, source_of(commit), tmp_path)
    assert error.code == "source-too-large"
    assert "it holds more than 50000 files and folders" in error.message


def test_files_that_unpack_to_too_much_are_refused_before_they_are_read(
    server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_tree, "MAX_TREE_BYTES", 1_000_000)
    commit = server.publish("git.example/org/trees", {**FILES, "zeros": bytes(1_000_001)}, "1.0")
    error = refusal(server, source_of(commit), tmp_path)
    assert error.code == "source-too-large"
    assert "more than 1000000 bytes" in error.message


def test_a_path_that_is_git_s_own_is_refused(server: GitServer, tmp_path: Path) -> None:
    server.publish("git.example/org/trees", FILES, "1.0")
    work = server.root / "git.example/org/trees"
    oid = server.git(work, "hash-object", "-w", "--stdin", data=b"x")
    inner = server.git(work, "mktree", data=f"100644 blob {oid}\tconfig\n".encode())
    raw = b"40000 .Git\0" + bytes.fromhex(inner)
    tree = server.git(work, "hash-object", "-w", "--literally", "-t", "tree", "--stdin", data=raw)
    commit = server.git(work, "commit-tree", tree, "-m", "odd")
    server.git(work, "tag", "--force", "1.0", commit)
    error = refusal(server, source_of(commit), tmp_path)
    assert "'.Git': it is git's own" in error.message


def test_a_keep_that_is_not_there_is_refused(server: GitServer, tmp_path: Path) -> None:
    commit = server.publish("git.example/org/trees", FILES, "1.0")
    error = refusal(server, source_of(commit, keep=("apps",)), tmp_path)
    assert "has none of the folders to keep: apps" in error.message


ARGO = "https://github.com/argo/flows/manifests/base?ref=v3.7.3"
LOOSE = "https://github.com/sets/jobs/releases/download/v0.1/manifests.yaml"


def publish_remote(server: GitServer) -> tuple[str, str]:
    """A tree with a remote folder, which has a remote folder of its own, and a remote file."""
    inner = server.publish(
        "github.com/deep/er",
        {"config/kustomization.yaml": "resources: [deep.yaml]\n", "config/deep.yaml": "kind: D\n"},
        "v1",
    )
    server.publish(
        "github.com/argo/flows",
        {
            "manifests/base/kustomization.yaml": "resources:\n- ../crds  # ours\n"
            "- git::https://github.com/deep/er//config?version=v1\n",
            "manifests/crds/kustomization.yaml": "resources: [crd.yaml]\n",
            "manifests/crds/crd.yaml": "kind: C\n",
            "ui/app.js": "large",
        },
        "v3.7.3",
    )
    server.files["/github.com/sets/jobs/releases/download/v0.1/manifests.yaml"] = b"kind: J\n"
    commit = server.publish(
        "git.example/org/trees",
        {"app/kustomization.yaml": f"# as upstream\nresources:\n- {ARGO}\n- {LOOSE} # why\n"},
        "1.0",
    )
    return commit, inner


def test_remote_bases_of_remote_bases_are_put_into_the_tree(
    server: GitServer, tmp_path: Path
) -> None:
    commit, inner = publish_remote(server)
    found = fetched(server, source_of(commit), tmp_path)
    files = found.tree.files
    argo = remote_pins(found.tree.remote)[ARGO]
    mount = f"perimeter-remote/github.com/argo/flows/{argo}"
    assert sorted(path for path in files if path.startswith("perimeter-remote/")) == [
        f"{mount}/manifests/base/kustomization.yaml",
        f"{mount}/manifests/crds/crd.yaml",
        f"{mount}/manifests/crds/kustomization.yaml",
        f"perimeter-remote/github.com/deep/er/{inner}/config/deep.yaml",
        f"perimeter-remote/github.com/deep/er/{inner}/config/kustomization.yaml",
    ]
    text = files["app/kustomization.yaml"].decode()
    assert text.startswith(f'# as upstream\nresources:\n- "../{mount}/manifests/base"\n- "./perime')
    assert text.endswith('/manifests.yaml" # why\n')
    assert len(found.tree.remote) == 3


def test_a_build_takes_what_the_lock_says_though_upstream_moved(
    server: GitServer, tmp_path: Path
) -> None:
    commit, _ = publish_remote(server)
    locked = fetched(server, source_of(commit), tmp_path)
    server.publish("github.com/argo/flows", {"manifests/base/x": "y"}, "v3.7.3")
    again = fetched(server, source_of(commit), tmp_path, pins=remote_pins(locked.tree.remote))
    assert again.archive == locked.archive


def test_a_remote_file_that_changed_since_it_was_locked_is_refused(
    server: GitServer, tmp_path: Path
) -> None:
    commit, _ = publish_remote(server)
    locked = fetched(server, source_of(commit), tmp_path)
    server.files["/github.com/sets/jobs/releases/download/v0.1/manifests.yaml"] = b"kind: K\n"
    error = refusal(server, source_of(commit), tmp_path, pins=remote_pins(locked.tree.remote))
    assert error.code == "digest-mismatch"
    assert LOOSE in error.message


def test_a_lock_that_names_other_references_is_refused(server: GitServer, tmp_path: Path) -> None:
    commit, _ = publish_remote(server)
    locked = remote_pins(fetched(server, source_of(commit), tmp_path).tree.remote)
    less = {key: pin for key, pin in locked.items() if key != LOOSE}
    more = {**locked, "https://github.com/x/y": "0" * 40}
    assert (
        f"{LOOSE} is not in the lock"
        in refusal(server, source_of(commit), tmp_path, pins=less).message
    )
    error = refusal(server, source_of(commit), tmp_path, pins=more)
    assert (error.code, error.problems) == ("lock-contradicted", ("https://github.com/x/y",))


def test_remote_bases_in_a_circle_are_refused_with_the_circle(
    server: GitServer, tmp_path: Path
) -> None:
    server.publish(
        "github.com/a/a", {"kustomization.yaml": "resources: ['github.com/b/b?ref=v1']\n"}, "v1"
    )
    server.publish(
        "github.com/b/b",
        {"kustomization.yaml": "resources: ['git@github.com:a/a?ref=v1']\n"},
        "v1",
    )
    commit = server.publish(
        "git.example/org/trees",
        {"app/kustomization.yaml": "resources: [https://github.com/a/a?ref=v1]\n"},
        "1.0",
    )
    error = refusal(server, source_of(commit), tmp_path)
    assert error.code == "circular-bases", str(error)
    (circle,) = error.problems
    assert circle.split(" → ")[0] == circle.split(" → ")[-1]
    assert "perimeter-remote/github.com/b/b/" in circle


def test_a_remote_base_that_is_gone_is_named(server: GitServer, tmp_path: Path) -> None:
    commit = server.publish(
        "git.example/org/trees",
        {"app/kustomization.yaml": "resources: ['https://github.com/no/body//x?ref=v9']\n"},
        "1.0",
    )
    error = refusal(server, source_of(commit), tmp_path)
    assert error.code == "source-gone"
    assert "https://github.com/no/body//x?ref=v9" in error.message


def test_no_login_is_asked_for_and_no_password_is_shown(
    server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetcher = server.fetcher()
    fetcher.settings = replace(
        fetcher.settings, proxies={"https": "http://user:hunter2@127.0.0.1:9"}
    )
    source = source_of("0" * 40, git="https://git.invalid/org/trees")
    with pytest.raises(NetworkError) as caught:
        fetch_source(source, ["app"], fetcher, tmp_path / "work")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(InputError):
        fetcher_ref = source_of("0" * 40, tag="--upload-pack=touch")
        fetch_source(fetcher_ref, ["app"], fetcher, tmp_path / "work")
