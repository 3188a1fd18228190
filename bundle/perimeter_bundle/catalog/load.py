"""manifests/ → values. Every problem of every file is collected before anything is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from perimeter_bundle.catalog.built import can_compile_for
from perimeter_bundle.catalog.load_built import built_image, built_image_problems
from perimeter_bundle.catalog.schema import (
    ChartModel,
    ComponentModel,
    FileModel,
    ImageModel,
    KustomizationModel,
    ReleaseModel,
    RulesModel,
    SiteTagModel,
    SourceModel,
    read_model,
)
from perimeter_bundle.catalog.site_tags import SiteTag, SystemPackages
from perimeter_bundle.catalog.strict_yaml import KeyPath, YamlDocument, parse_yaml
from perimeter_bundle.catalog.values import (
    Catalog,
    ChartSpec,
    Component,
    FileSpec,
    ImageSpec,
    KustomizationSpec,
    LicenceRule,
    ManifestSpec,
    ReadyCondition,
    Release,
    SourceSpec,
)
from perimeter_bundle.discover.rules import (
    ComposeRule,
    ExcludeRule,
    NotImageRule,
    Rules,
    TakeFrom,
)
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import InputError
from perimeter_bundle.model.lock import WORKLOADS
from perimeter_bundle.model.phases import Phase
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.review.coherence.rules import Acceptance, Product

COMPONENT_FILE = "component.yaml"
SOURCES_FOLDER = "sources"


def load_catalog(root: Path) -> Catalog:
    """Every component under ``root``; raises InputError[bad-catalog] with every problem found."""
    problems: list[str] = []
    paths = sorted(root.glob(f"*/{COMPONENT_FILE}"))
    if not paths:
        raise InputError(
            "no-catalog",
            f"no component in {root}",
            hint="a catalog holds <component>/component.yaml and releases/<name>.yaml",
        )
    sources = _load_sources(root, problems)
    components = {}
    for path in paths:
        component = _load_component(path, root, sources, problems)
        if component is not None:
            components[component.name] = component
    known = {name: source for name, source in sources.items() if source is not None}
    catalog = Catalog(root=root, components=components, sources=known)
    problems = problems or list(_catalog_problems(catalog))
    if problems:
        raise _refusal(problems)
    return catalog


def has_component(root: Path, name: str) -> bool:
    """Whether the catalog at ``root`` has a folder for a component of this name."""
    return bool(name) and "/" not in name and (root / name / COMPONENT_FILE).is_file()


def load_release(catalog: Catalog, name: str) -> Release:
    """The release of this name; raises InputError[unknown-release] or [bad-catalog]."""
    names = catalog.release_names()
    if name not in names:
        raise InputError(
            "unknown-release",
            f"the catalog has no release {name!r}",
            context={"releases": ", ".join(names) or "none", "catalog": catalog.root},
        )
    path = catalog.releases_folder / f"{name}.yaml"
    problems: list[str] = []
    document = _read(path, catalog.root, problems)
    model = read_model(ReleaseModel, document, problems) if document else None
    if document is None or model is None:
        raise _refusal(problems)
    if model.name != name:
        problems.append(document.problem(("name",), f"must be {name!r}, as the file is called"))
    components = []
    for index, wanted in enumerate(model.components):
        component = catalog.components.get(wanted)
        if component is None:
            problems.append(
                document.problem(("components", index), f"the catalog has no component {wanted}")
            )
        else:
            components.append(component)
    release = Release(
        name=model.name,
        number=model.number,
        platforms=tuple(Platform.parse(text) for text in model.platforms),
        minimum_installer=model.minimum_installer,
        jump_host_pythons=tuple(model.jump_host.pythons),
        components=tuple(components),
        acceptances=tuple(Acceptance(one.finding, one.reason) for one in model.accept),
    )
    problems += [
        document.problem(("components",), text)
        for text in _release_problems(release, model, catalog)
    ]
    if problems:
        raise _refusal(problems)
    return release


def with_platforms(release: Release, texts: Sequence[str]) -> Release:
    """The release collected for other platforms; raises InputError[bad-platform]."""
    platforms = tuple(dict.fromkeys(Platform.parse(text) for text in texts))
    changed = replace(release, platforms=platforms)
    problems = list(_missing_files(changed))
    if problems:
        raise InputError(
            "bad-platform", f"release {release.name} cannot be collected so", problems=problems
        )
    return changed


def _catalog_problems(catalog: Catalog) -> Iterable[str]:
    """What must hold whatever a release puts together."""
    for component in catalog.components.values():
        where = f"{catalog.root.name}/{component.name}/{COMPONENT_FILE}"
        for name in component.provides:
            if name in catalog.components:
                yield f"{where}: provides: {name} is a component already"
        for name in component.needs:
            if name not in catalog.components and not catalog.providers(name):
                yield f"{where}: needs: {name} is no component, and none provides it"


def _release_problems(release: Release, model: ReleaseModel, catalog: Catalog) -> Iterable[str]:
    """What components say about each other."""
    for name in _twice(model.components):
        yield f"{name} stands there twice"
    for text in _twice(model.platforms):
        yield f"platform {text} stands there twice"
    yield from _need_problems(release, catalog)
    for what in sorted({what for component in release.components for what in component.provides}):
        several = [c.name for c in release.components if what in c.provides]
        if len(several) > 1:
            yield f"{' and '.join(several)} all provide {what}; choose one"
    for text in _twice(one.finding for one in model.accept):
        yield f"{text} is accepted twice"
    for name in _twice(product.name for c in release.components for product in c.products):
        yield f"two components have a coherence rule called {name}"
    for name in _twice(chart.name for c in release.components for chart in c.charts):
        yield f"two components bring a chart called {name}"
    files = {
        (component.name, file.name) for component in release.components for file in component.files
    }
    if release.sources and ("kustomize", "kustomize") not in files:
        users = ", ".join(c.name for c in release.components if c.kustomizations)
        yield f"{users}: kustomizations need component kustomize, which brings file kustomize"
    yield from _missing_files(release)
    yield from _contradicting_images(release)
    yield from _other_go(release)


def _other_go(release: Release) -> Iterable[str]:
    """Images that the Go of the release does not compile."""
    carried = [c.version for c in release.components if c.name == "go"]
    for component in release.components:
        for image in component.built_images:
            for version in carried:
                if not image.go.takes(f"go{version}"):
                    yield (
                        f"{component.name} compiles {image.reference} with Go {image.go.go}, "
                        f"component go is {version}"
                    )


def _contradicting_images(release: Release) -> Iterable[str]:
    known: dict[ImageReference, Digest] = {}
    made = Counter(image.reference for c in release.components for image in c.built_images)
    for component in release.components:
        for image in (*component.images, *component.known_images):
            if image.digest and known.setdefault(image.reference, image.digest) != image.digest:
                yield f"two components know {image.reference} with different digests"
            if image.reference in made:
                yield f"{component.name} wants {image.reference} from upstream, another builds it"
        for one in component.built_images:
            if made[one.reference] > 1:
                yield f"{component.name} is not the only one that builds {one.reference}"
            if one.base in made:
                yield f"{one.reference} stands on {one.base}, which is built itself"


def _need_problems(release: Release, catalog: Catalog) -> Iterable[str]:
    """Every pair of a component and what it needs and does not have before it."""
    there = {component.name for component in release.components}
    before: list[Component] = []
    for component in release.components:
        late = [c for c in before if component.phase.place < c.phase.place]
        if late and component.phase is not Phase.TOOLS:
            yield (
                f"{component.name} (phase {component.phase.value}) stands after {late[0].name} "
                f"(phase {late[0].phase.value}), which is installed later"
            )
        for needed in component.needs:
            choice = catalog.providers(needed)
            if any(c.name == needed or needed in c.provides for c in before):
                continue
            if there & {needed, *choice}:
                yield f"{component.name} needs {needed}, which stands after it"
            elif choice:
                yield (
                    f"{component.name} needs {needed}, and nothing provides it: "
                    f"choose {' or '.join(choice)}"
                )
            else:
                yield f"{component.name} needs {needed}, which stands not at all beside it"
        before.append(component)


def _missing_files(release: Release) -> Iterable[str]:
    for component in release.components:
        for image in component.built_images:
            for platform in release.platforms:
                if not can_compile_for(platform):
                    yield f"{image.reference} cannot be compiled for {platform}"
        for file in component.files:
            missing = [p for p in release.platforms if file.platforms and p not in file.platforms]
            for platform in missing:
                yield f"{component.name} has no file {file.name} for {platform}"


def _load_sources(root: Path, problems: list[str]) -> dict[str, SourceSpec | None]:
    """Every source by the name of its file; None for one that cannot be used."""
    sources: dict[str, SourceSpec | None] = {}
    for path in sorted(root.glob(f"{SOURCES_FOLDER}/*.yaml")):
        sources[path.stem] = None
        document = _read(path, root, problems)
        model = read_model(SourceModel, document, problems) if document else None
        if document is None or model is None:
            continue
        if model.name != path.stem:
            text = f"must be {path.stem}, as the file is called"
            problems.append(document.problem(("name",), text))
        for key, names in (("keep", model.keep), ("alternates", [model.git, *model.alternates])):
            for name in _twice(names):
                problems.append(document.problem((key,), f"{name} stands there twice"))
        sources[path.stem] = SourceSpec(
            name=model.name,
            licence=model.licence,
            git=model.git,
            tag=model.tag,
            commit=model.commit,
            keep=tuple(model.keep),
            alternates=tuple(model.alternates),
        )
    return sources


def _load_component(
    path: Path, root: Path, sources: Mapping[str, SourceSpec | None], problems: list[str]
) -> Component | None:
    document = _read(path, root, problems)
    model = read_model(ComponentModel, document, problems) if document else None
    if document is None or model is None:
        return None
    before = len(problems)
    problems += _component_problems(model, document, path)
    problems += built_image_problems(model, document, path.parent)
    charts = tuple(
        _chart(chart, model, path.parent, root, sources, document, ("charts", index), problems)
        for index, chart in enumerate(model.charts)
    )
    kustomizations = tuple(
        _kustomization(one, sources, document, index, problems)
        for index, one in enumerate(model.kustomizations)
    )
    if len(problems) > before:
        return None
    return Component(
        name=model.name,
        title=model.title,
        version=model.version,
        licence=model.licence,
        source=model.source,
        phase=model.phase,
        needs=tuple(model.needs),
        provides=tuple(model.provides),
        images=tuple(_image(image, model) for image in model.images if image.why),
        known_images=tuple(_image(image, model) for image in model.images if not image.why),
        built_images=tuple(built_image(one, model, path.parent) for one in model.built_images),
        kubeadm_file=model.images_from.kubeadm if model.images_from else "",
        charts=charts,
        files=tuple(_file(file, model) for file in model.files),
        manifests=tuple(
            ManifestSpec(m.name, m.version or model.version, m.url, m.licence or model.licence)
            for m in model.manifests
        ),
        kustomizations=tuple(one for one in kustomizations if one is not None),
        licences=tuple(LicenceRule(rule.image, rule.licence) for rule in model.licences),
        ready=tuple(
            ReadyCondition(r.kind, r.namespace or "", r.name, r.condition, r.api_version or "")
            for r in model.ready
        ),
        folder=path.parent,
        products=tuple(
            Product(one.product, tuple(one.images), one.same, one.evidence)
            for one in model.coherence
        ),
        rules=_rules(model.rules),
        site_tags=tuple(map(_site_tag, model.site_tags)),
    )


def _rules(model: RulesModel) -> Rules:
    return Rules(
        compose=tuple(
            ComposeRule(
                one.name,
                one.image,
                one.evidence,
                {name: TakeFrom(take.object, take.path) for name, take in one.take.items()},
            )
            for one in model.compose
        ),
        exclude=tuple(
            ExcludeRule(one.image, one.reason, one.object, one.path) for one in model.exclude
        ),
        not_images=tuple(
            NotImageRule(one.text, one.reason, one.object, one.path) for one in model.not_images
        ),
    )


def _component_problems(model: ComponentModel, document: YamlDocument, path: Path) -> Iterable[str]:
    if model.name != path.parent.name:
        yield document.problem(("name",), f"must be {path.parent.name}, as its folder is called")
    if model.name == WORKLOADS:
        yield document.problem(("name",), "stands for what a site brings itself")
    if model.name in model.needs:
        yield document.problem(("needs",), "a component cannot need itself")
    carried = (model.charts, model.files, model.manifests, model.kustomizations)
    if not (
        any(carried) or model.images or model.built_images or model.images_from or model.provides
    ):
        kinds = "no images, charts, files, manifests or kustomizations"
        yield document.problem((), f"brings nothing: {kinds}")
    lists: Mapping[str, list[str]] = {
        "images": [image.reference for image in model.images],
        "built_images": [image.reference for image in model.built_images],
        "charts": [chart.name for chart in model.charts],
        "files": [file.name for file in model.files],
        "manifests": [manifest.name for manifest in model.manifests],
        "kustomizations": [kustomization.name for kustomization in model.kustomizations],
        "coherence": [one.product for one in model.coherence],
        "rules": [one.name for one in model.rules.compose],
        "needs": model.needs,
        "provides": model.provides,
        "licences": [rule.image for rule in model.licences],
        "ready": [f"{one.kind} {one.namespace or ''}/{one.name}" for one in model.ready],
        "site_tags": [tag.name for tag in model.site_tags],
    }
    for key, names in lists.items():
        for name in _twice(names):
            yield document.problem((key,), f"{name} stands there twice")
    for name in _twice([*lists["charts"], *lists["manifests"], *lists["kustomizations"]]):
        if all(lists[kind].count(name) < 2 for kind in ("charts", "manifests", "kustomizations")):
            text = (
                f"{name} is rendered twice: give each chart, manifest, kustomization its own name"
            )
            yield document.problem((), text)
    if model.images_from and model.images_from.kubeadm not in lists["files"]:
        where = ("images_from", "kubeadm")
        yield document.problem(where, f"there is no file {model.images_from.kubeadm}")
    for index, image in enumerate(model.images):
        yield from _image_problems(image, document, ("images", index))
    for index, file in enumerate(model.files):
        if "{arch}" in file.url and not file.platforms:
            yield document.problem(
                ("files", index, "url"), "has {arch}, so platforms must be given"
            )
    for index, manifest in enumerate(model.manifests):
        if "{arch}" in manifest.url or "{os}" in manifest.url:
            yield document.problem(("manifests", index, "url"), "a manifest has no {arch} or {os}")


def _image_problems(image: ImageModel, document: YamlDocument, where: KeyPath) -> Iterable[str]:
    if not (image.why or image.alternates or image.digest):
        yield document.problem(where, "needs why, or says something about an image found elsewhere")
    for name in _twice([image.reference, *image.alternates]):
        yield document.problem((*where, "alternates"), f"{name} stands there twice")
    own = ImageReference.parse(image.reference).digest
    if own and image.digest and str(own) != image.digest:
        yield document.problem((*where, "digest"), "is not the one in the reference")


def _image(image: ImageModel, component: ComponentModel) -> ImageSpec:
    reference = ImageReference.parse(image.reference)
    return ImageSpec(
        reference=reference,
        why=image.why or "",
        licence=image.licence or (component.licence if image.why else ""),
        alternates=tuple(ImageReference.parse(text) for text in image.alternates),
        digest=Digest.parse(image.digest) if image.digest else reference.digest,
    )


def _chart(
    chart: ChartModel,
    component: ComponentModel,
    folder: Path,
    root: Path,
    sources: Mapping[str, SourceSpec | None],
    document: YamlDocument,
    where: tuple[str | int, ...],
    problems: list[str],
) -> ChartSpec:
    values: Mapping[str, object] = {}
    values_path = folder / chart.values if chart.values else None
    if values_path is not None and not values_path.is_file():
        text = f"there is no file {chart.values} beside it"
        problems.append(document.problem((*where, "values"), text))
    elif values_path is not None:
        values_document = _read(values_path, root, problems)
        if values_document is not None and isinstance(values_document.value, dict):
            values = values_document.value
        elif values_document is not None and values_document.value is not None:
            problems.append(values_document.problem((), "values must be a mapping"))
    source = None
    if chart.source and chart.path:
        source = _source_of(chart.source, chart.path, sources, document, where, problems)
    return ChartSpec(
        name=chart.name,
        version=chart.version,
        repository=chart.repository or "",
        licence=chart.licence or component.licence,
        namespace=chart.namespace,
        release_name=chart.release_name or chart.name,
        values_path=values_path,
        values=values,
        source=source,
        path=chart.path or "",
        alternates={name: tuple(others) for name, others in chart.alternates.items()},
    )


def _kustomization(
    one: KustomizationModel,
    sources: Mapping[str, SourceSpec | None],
    document: YamlDocument,
    index: int,
    problems: list[str],
) -> KustomizationSpec | None:
    source = _source_of(
        one.source, one.path, sources, document, ("kustomizations", index), problems
    )
    return KustomizationSpec(one.name, source, one.path) if source else None


def _source_of(
    name: str,
    path: str,
    sources: Mapping[str, SourceSpec | None],
    document: YamlDocument,
    where: tuple[str | int, ...],
    problems: list[str],
) -> SourceSpec | None:
    """The source called ``name``, which keeps ``path``; None when it cannot be used."""
    if name not in sources:
        text = f"there is no sources/{name}.yaml"
        problems.append(document.problem((*where, "source"), text))
    source = sources.get(name)
    if source is None:  # what is wrong with it was said
        return None
    if source.keep and not any(f"{path}/".startswith(f"{kept}/") for kept in source.keep):
        text = f"is not among what source {source.name} keeps: {', '.join(source.keep)}"
        problems.append(document.problem((*where, "path"), text))
    return source


def _site_tag(model: SiteTagModel) -> SiteTag:
    return SiteTag(
        name=model.name,
        image=model.image,
        version=model.version,
        tag=model.tag,
        precompiled_tag=model.precompiled_tag or "",
        choice=model.choice or "",
        only_groups=tuple(model.only_groups),
        why=model.why,
        evidence=model.evidence,
        asked_by=model.render.object,
        path=model.render.path,
        not_precompiled_with=tuple(model.not_precompiled_with),
        values=model.values.model_dump(),
        packages={
            system: SystemPackages(
                tuple(one.install), tuple(one.download), tuple(one.download_if_there)
            )
            for system, one in model.packages.items()
        },
    )


def _file(file: FileModel, component: ComponentModel) -> FileSpec:
    return FileSpec(
        name=file.name,
        version=file.version or component.version,
        url=file.url,
        platforms=tuple(Platform.parse(text) for text in file.platforms),
        licence=file.licence or component.licence,
        checksum_url=file.checksum_url or "",
    )


def _read(path: Path, root: Path, problems: list[str]) -> YamlDocument | None:
    try:
        return parse_yaml(path.read_bytes(), f"{root.name}/{path.relative_to(root).as_posix()}")
    except InputError as error:
        problems += error.problems
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}")
    return None


def _twice(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)


def _refusal(problems: list[str]) -> InputError:
    return InputError(
        "bad-catalog",
        f"the catalog cannot be used: {len(problems)} problem{'s' if len(problems) > 1 else ''}",
        problems=problems,
        hint="docs/catalog.md describes every key",
    )
