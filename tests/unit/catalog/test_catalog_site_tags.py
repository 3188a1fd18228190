"""site_tags of a component: what is read, and what is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.catalog.test_catalog_load import COMPONENT, catalog, loaded, problems_of

TAGS = """\
site_tags:
  - name: driver
    image: nvcr.io/nvidia/driver
    version: "595.91.07"
    tag: "{version}-{os_tag}"
    precompiled_tag: "{branch}-{kernel}-{os_tag}"
    choice: gpu
    only_groups: [gpu]
    why: drives
    evidence: the operator's source
    render: {object: "ClusterPolicy/*", path: spec.driver}
    not_precompiled_with: [spec.gds.enabled]
    values:
      precompiled: {driver: {usePrecompiled: true, version: "{branch}"}}
"""


def test_a_site_tag_is_read_with_its_values(tmp_path: Path) -> None:
    (tag,) = loaded(catalog(tmp_path, COMPONENT + TAGS)).components[0].site_tags
    assert (tag.image, tag.version, tag.branch) == ("nvcr.io/nvidia/driver", "595.91.07", "595")
    assert (tag.asked_by, tag.path) == ("ClusterPolicy/*", "spec.driver")
    assert tag.values["precompiled"] == {"driver": {"usePrecompiled": True, "version": "{branch}"}}
    assert tag.values["host"] == {}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("nvcr.io/nvidia/driver", "nvcr.io/nvidia/driver:1", "image: not an image reference"),
        ("nvcr.io/nvidia/driver", "driver", "image: write host and repository alone"),
        ("{version}-{os_tag}", "{version}", "tag: depends on no host"),
        ("{branch}-{kernel}", "{branch}-{colour}", "unknown placeholder {colour}"),
        ("choice: gpu", "choice: tpu", "choice: Input should be 'gpu'"),
        ("only_groups: [gpu]", "only_groups: [nodes]", "only_groups"),
        ('"ClusterPolicy/*"', "ClusterPolicy", "render.object"),
        ("path: spec.driver", 'path: "spec[0]"', "render.path"),
        ("evidence: the operator's source\n", "evidence: ''\n", "evidence"),
        ("precompiled: {driver", "compiled: {driver", "unknown key; there are container"),
        ('version: "595.91.07"', "version: 595.9", "must be a string; put 595.9 in quotes"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    changed = TAGS.replace(old, new)
    assert changed != TAGS
    problems = problems_of(catalog(tmp_path, COMPONENT + changed))
    assert any(said in problem for problem in problems), problems
    assert all(problem.startswith("manifests/shop/component.yaml:") for problem in problems)


def test_two_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = TAGS + TAGS.partition("\n")[2]
    assert (
        "site_tags: driver stands there twice"
        in problems_of(catalog(tmp_path, COMPONENT + twice))[0]
    )
