"""docs/stack.md, made from the catalog: ``python -m tests.support.stack`` writes it."""

from __future__ import annotations

from pathlib import Path

from perimeter_bundle.catalog.content import content_root
from perimeter_bundle.catalog.load import load_catalog, load_release
from perimeter_bundle.catalog.values import Catalog, Component
from perimeter_bundle.model.phases import CARRIED, is_installed

DEFAULT_RELEASE = "2026.11"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "stack.md"

_HEAD = f"""\
# The stack

Made from `manifests/` by `python -m tests.support.stack`; a test compares. Versions and sources are
those of the catalog; [catalog.md](catalog.md) says what each key means.

Default release: `{DEFAULT_RELEASE}`. "Carried" means: {CARRIED}.
"""


def stack_page(catalog: Catalog) -> str:
    """The page: the default release in the order of installation, then what it leaves out."""
    release = load_release(catalog, DEFAULT_RELEASE)
    names = {component.name for component in release.components}
    others = [catalog.components[name] for name in sorted(set(catalog.components) - names)]
    return "\n".join(
        [
            _HEAD,
            "## In the default release",
            "",
            *_table(release.components),
            "",
            "## In the catalog beside it",
            "",
            *_table(others),
            "",
            "## What needs what",
            "",
            *_needs(release.components, others),
            "",
        ]
    )


def _table(components: tuple[Component, ...] | list[Component]) -> list[str]:
    lines = [
        "| component | version | phase | licence | brings | apply |",
        "|---|---|---|---|---|---|",
    ]
    for one in components:
        cells = (
            f"[{one.title}]({one.source}) (`{one.name}`)",
            one.version,
            one.phase.value,
            one.licence,
            _brings(one),
            "installs" if is_installed(one.name, one.phase.value) else "carried",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _brings(component: Component) -> str:
    kinds = {
        "chart": [chart.name for chart in component.charts],
        "kustomization": [one.name for one in component.kustomizations],
        "manifest": [manifest.name for manifest in component.manifests],
        "file": [file.name for file in component.files],
    }
    parts = [
        f"{kind}{'s' if len(names) > 1 else ''} {', '.join(names)}"
        for kind, names in kinds.items()
        if names
    ]
    if component.images or component.kubeadm_file:
        count = len(component.images)
        named = [f"{count} image{'s' if count > 1 else ''} by name"] if count else []
        named += ["the images kubeadm lists"] if component.kubeadm_file else []
        parts.append(" and ".join(named))
    return "; ".join(parts) or f"nothing; stands for {', '.join(component.provides)}"


def _needs(*groups: tuple[Component, ...] | list[Component]) -> list[str]:
    lines = ["| component | needs | provides |", "|---|---|---|"]
    for group in groups:
        for one in group:
            needs, provides = ", ".join(one.needs) or "–", ", ".join(one.provides) or "–"
            lines.append(f"| `{one.name}` | {needs} | {provides} |")
    return lines


def main() -> None:
    """Writes the page."""
    PAGE.write_text(stack_page(load_catalog(content_root() / "manifests")))


if __name__ == "__main__":
    main()
