"""What the builder accepts of this repository's catalog, the closed side accepts unchanged."""

from __future__ import annotations

import pytest

from perimeter_bundle.collect.complete import discovery_file
from perimeter_bundle.discover.discover import discover
from perimeter_bundle.format.discovery_file import parse_discovery
from perimeter_installer.run.render_gate import refusals
from tests.support.upstream_renders import catalog, discovered, documents

WITH_KUSTOMIZATIONS = sorted(n for n, c in catalog().components.items() if c.kustomizations)


@pytest.mark.parametrize("component", WITH_KUSTOMIZATIONS)
def test_a_component_without_values_of_the_site_passes(component: str) -> None:
    by_builder = discovered(component)
    noted = parse_discovery(discovery_file({component: by_builder}))
    at_site = discover(documents(component))
    held = frozenset(by_builder.references())
    for one in catalog().components[component].kustomizations:
        assert refusals(at_site, f"{component}/{one.name}", held, noted) == ()
