"""The shape of component.yaml, of source and of release files, as pydantic models.

They check what one file can say about itself; what files say about each other is checked in
load.py. Field documentation for writers is docs/catalog.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from perimeter_bundle.catalog.go_text import (
    go_ldflag,
    go_module,
    go_package,
    go_version,
    path_in_image,
)
from perimeter_bundle.catalog.site_tags import template_problem
from perimeter_bundle.catalog.strict_yaml import YamlDocument
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import PerimeterError
from perimeter_bundle.model.lock import oci_tag
from perimeter_bundle.model.phases import Phase
from perimeter_bundle.model.platform import Platform
from perimeter_bundle.model.reference import ImageReference
from perimeter_bundle.review.coherence.rules import Same

_PLACEHOLDER = re.compile(r"\{[^}]*\}?")
_RULE_FIELD = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
_KNOWN_PLACEHOLDERS = ("{version}", "{arch}", "{os}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def _checked_url(text: str, schemes: tuple[str, ...]) -> str:
    parts = urlsplit(text)
    allowed = " or ".join(f"{scheme}://" for scheme in schemes)
    if parts.scheme not in schemes or not parts.hostname:
        raise ValueError(f"must be a full address beginning with {allowed}")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("holds characters that do not belong in an address")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user name or password; use --docker-config")
    unknown = [p for p in _PLACEHOLDER.findall(text) if p not in _KNOWN_PLACEHOLDERS]
    if unknown:
        raise ValueError(f"unknown placeholder {unknown[0]}; there are {{version}} {{arch}} {{os}}")
    return text


def _https_url(text: str) -> str:
    return _checked_url(text, ("https",))


def _chart_repository(text: str) -> str:
    return _checked_url(text, ("https", "oci")).rstrip("/")


def _reference(text: str) -> str:
    reference = _no_perimeter_error(ImageReference.parse, text)
    if str(reference) != text:
        raise ValueError(f"write the complete reference: {reference}")
    return text


def _digest_text(text: str) -> str:
    return str(_no_perimeter_error(Digest.parse, text))


def _platform(text: str) -> str:
    return str(_no_perimeter_error(Platform.parse, text))


def _version(text: str) -> str:
    if not _TAG.fullmatch(oci_tag(text)):
        raise ValueError("must be letters, digits and . _ - +, at most 128")
    return text


def _relative_file(text: str) -> str:
    if "/" in text or "\\" in text or text.startswith(".") or not text.isprintable():
        raise ValueError("must be the name of a file beside component.yaml")
    return text


def _relative_folder(text: str) -> str:
    parts = text.split("/")
    if any(part in ("", ".", "..") or part.startswith("-") for part in parts):
        raise ValueError("must be a plain relative path, such as applications/pipeline")
    if not text.isprintable() or "\\" in text or len(text) > 500:
        raise ValueError("holds characters that do not belong in a path")
    return text


def _plain_https_url(text: str) -> str:
    parts = urlsplit(_checked_url(text, ("https",)))
    if "{" in text or parts.query or parts.fragment:
        raise ValueError("must be a plain address, without placeholders, ? and #")
    return text


def _repository(text: str) -> str:
    reference = _no_perimeter_error(ImageReference.parse, f"{text}:x")
    if reference.name != text or reference.digest:
        raise ValueError("write host and repository alone, such as nvcr.io/nvidia/driver")
    return text


def _tag_template(text: str) -> str:
    problem = template_problem(text)
    if problem:
        raise ValueError(problem)
    return text


Parsed = TypeVar("Parsed")


def _no_perimeter_error(parse: Callable[[str], Parsed], text: str) -> Parsed:
    """pydantic collects ValueErrors only."""
    try:
        return parse(text)
    except PerimeterError as error:
        raise ValueError(error.message) from error


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=63)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f]+$")]
Version = Annotated[str, AfterValidator(_version)]
HttpsUrl = Annotated[str, AfterValidator(_https_url)]
ChartRepository = Annotated[str, AfterValidator(_chart_repository)]
Reference = Annotated[str, AfterValidator(_reference)]
PlatformText = Annotated[str, AfterValidator(_platform)]
RepositoryGlob = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.:-]*/[a-z0-9._/*?-]+$")
]
FindingId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+:[^\x00-\x20]+$", max_length=500)]
FileBeside = Annotated[str, AfterValidator(_relative_file)]
FolderInside = Annotated[str, AfterValidator(_relative_folder)]
GitUrl = Annotated[str, AfterValidator(_plain_https_url)]
Repository = Annotated[str, AfterValidator(_repository)]
TagTemplate = Annotated[str, AfterValidator(_tag_template)]
_KERNEL = r"\{kernel(_version|_flavour)?\}"
PackageName = Annotated[
    str,
    StringConstraints(
        pattern=rf"^[A-Za-z0-9]([A-Za-z0-9+._-]|{_KERNEL})*( = {_KERNEL})?$", max_length=100
    ),
]
DottedPath = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$", max_length=200)
]
Commit = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
# an SPDX licence expression, as far as its form goes
Licence = Annotated[
    str,
    StringConstraints(
        max_length=300, pattern=r"^[A-Za-z0-9.+()-]+( (AND|OR|WITH) [A-Za-z0-9.+()-]+)*$"
    ),
]
ObjectName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)
]
ApiVersion = Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]+/v[a-z0-9]+$")]
DigestText = Annotated[str, AfterValidator(_digest_text)]
PathInImage = Annotated[str, AfterValidator(path_in_image)]
UserText = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}(:[0-9]{1,9})?$")]
PythonVersion = Annotated[str, StringConstraints(pattern=r"^3\.(1[1-9]|[2-9][0-9])$")]


@dataclass(frozen=True, slots=True)
class ReadyKind:
    """How an object of a kind is waited for."""

    condition: str
    namespaced: bool = True


# What can be waited for of Kubernetes' own kinds; Answering: the webhook's service takes calls.
READY_KINDS = {
    "APIService": ReadyKind("Available", namespaced=False),
    "CustomResourceDefinition": ReadyKind("Established", namespaced=False),
    "DaemonSet": ReadyKind("RolledOut"),
    "Deployment": ReadyKind("Available"),
    "Job": ReadyKind("Complete"),
    "MutatingWebhookConfiguration": ReadyKind("Answering", namespaced=False),
    "StatefulSet": ReadyKind("RolledOut"),
    "ValidatingWebhookConfiguration": ReadyKind("Answering", namespaced=False),
}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ImageModel(_Model):
    """One entry of ``images``; without ``why`` it only says more about an image found elsewhere."""

    reference: Reference
    why: Text | None = None
    licence: Licence | None = None
    alternates: list[Reference] = Field(default_factory=list)
    digest: DigestText | None = None


class GoModel(_Model):
    """``go`` of a built image."""

    module: Annotated[str, AfterValidator(go_module)]
    version: Annotated[str, AfterValidator(go_version)]
    sum: Annotated[str, StringConstraints(pattern=r"^h1:[A-Za-z0-9+/]{43}=$")]
    package: Annotated[str, AfterValidator(go_package)] = "."
    go: Annotated[str, StringConstraints(pattern=r"^1\.[0-9]{1,3}\.([0-9]{1,3}|x)$")]
    cgo: Literal[False] = False
    ldflags: list[Annotated[str, AfterValidator(go_ldflag)]] = Field(default_factory=list)
    tags: list[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]+$")]] = Field(
        default_factory=list
    )


class BuiltImageModel(_Model):
    """One entry of ``built_images``."""

    reference: Reference
    why: Text
    licence: Licence | None = None
    go: GoModel
    base: Literal["scratch"] | Reference
    user: Annotated[int, Field(ge=0, lt=2**31)] | UserText = "0"
    entrypoint: Annotated[list[Text], Field(min_length=1)]
    command: list[Text] = Field(default_factory=list)
    paths: Annotated[dict[PathInImage, Literal["binary"]], Field(min_length=1)]
    files: dict[PathInImage, FileBeside] = Field(default_factory=dict)


class ImagesFromModel(_Model):
    """``images_from``: programs of the component that say themselves which images they need."""

    kubeadm: Name


class ChartModel(_Model):
    """One entry of ``charts``."""

    name: Name
    version: Version
    repository: ChartRepository | None = None
    source: Name | None = None
    path: FolderInside | None = None
    alternates: dict[Text, Annotated[list[ChartRepository], Field(min_length=1)]] = Field(
        default_factory=dict
    )
    values: FileBeside | None = None
    licence: Licence | None = None
    namespace: Name
    release_name: Name | None = None

    @model_validator(mode="after")
    def _fits(self) -> ChartModel:
        if (self.repository is None) == (self.source is None):
            raise ValueError("needs repository, or source with path")
        if (self.source is None) != (self.path is None):
            raise ValueError("source and path belong together")
        return self


class FileModel(_Model):
    """One entry of ``files``."""

    name: Name
    version: Version | None = None
    url: HttpsUrl
    platforms: list[PlatformText] = Field(default_factory=list)
    licence: Licence | None = None
    checksum_url: HttpsUrl | None = None


class ManifestModel(_Model):
    """One entry of ``manifests``."""

    name: Name
    version: Version | None = None
    url: HttpsUrl
    licence: Licence | None = None


class LicenceModel(_Model):
    """One entry of ``licences``."""

    image: Text
    licence: Licence


class ReadyModel(_Model):
    """One entry of ``ready``."""

    kind: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z0-9]{0,62}$")]
    namespace: ObjectName | None = None
    name: ObjectName
    condition: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z]{0,62}$")]
    api_version: ApiVersion | None = None

    @model_validator(mode="after")
    def _fits(self) -> ReadyModel:
        known = READY_KINDS.get(self.kind)
        if known is None:
            if self.api_version is None:
                raise ValueError(f"{self.kind} is no kind of Kubernetes itself; give api_version")
            return self
        if self.api_version is not None:
            raise ValueError(f"{self.kind} is a kind of Kubernetes itself; leave api_version out")
        if self.condition != known.condition:
            raise ValueError(f"a {self.kind} is waited for until it is {known.condition}")
        if known.namespaced != (self.namespace is not None):
            raise ValueError(f"a {self.kind} has {'a' if known.namespaced else 'no'} namespace")
        return self


class KustomizationModel(_Model):
    """One entry of ``kustomizations``."""

    name: Name
    source: Name
    path: FolderInside


class RenderPlaceModel(_Model):
    """``render`` of a site tag: where the rendered objects ask for the image."""

    object: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]+/\S+$", max_length=200)]
    path: DottedPath


class SiteValuesModel(_Model):
    """``values`` of a site tag: values of the chart for each outcome."""

    container: dict[str, object] = Field(default_factory=dict)
    precompiled: dict[str, object] = Field(default_factory=dict)
    host: dict[str, object] = Field(default_factory=dict)
    several_os: dict[str, object] = Field(default_factory=dict)
    packages: dict[str, object] = Field(default_factory=dict)


class SystemPackagesModel(_Model):
    """``packages`` of a site tag, for one system."""

    install: list[PackageName] = Field(default_factory=list)
    download: list[PackageName] = Field(default_factory=list)
    download_if_there: list[PackageName] = Field(default_factory=list)


class SiteTagModel(_Model):
    """One entry of ``site_tags``."""

    name: Name
    image: Repository
    version: Version
    tag: TagTemplate
    precompiled_tag: TagTemplate | None = None
    choice: Literal["gpu"] | None = None
    only_groups: list[Literal["registry", "control_plane", "worker", "gpu"]] = Field(
        default_factory=list
    )
    why: Text
    evidence: Text
    render: RenderPlaceModel
    not_precompiled_with: list[DottedPath] = Field(default_factory=list)
    values: SiteValuesModel = SiteValuesModel()
    packages: dict[Name, SystemPackagesModel] = Field(default_factory=dict)


class SourceModel(_Model):
    """A whole sources/<name>.yaml."""

    name: Name
    licence: Licence
    git: GitUrl
    tag: Version
    commit: Commit
    keep: list[FolderInside] = Field(default_factory=list)
    alternates: list[GitUrl] = Field(default_factory=list)


class ProductModel(_Model):
    """One entry of ``coherence``."""

    product: Name
    images: Annotated[list[RepositoryGlob], Field(min_length=1)]
    same: Annotated[Same, Field(strict=False)] = Same.VERSION
    evidence: Text


class TakeModel(_Model):
    """Where a compose rule takes a value from."""

    object: Text
    path: Text


class ComposeModel(_Model):
    """One entry of ``rules.compose``."""

    name: Name
    image: Text
    take: dict[str, TakeModel] = Field(default_factory=dict)
    evidence: Text

    @model_validator(mode="after")
    def _fits(self) -> ComposeModel:
        fields = set(_RULE_FIELD.findall(self.image))
        if fields != set(self.take):
            raise ValueError("take must name each {field} of image, and nothing else")
        filled = _RULE_FIELD.sub("x", self.image)
        if str(_no_perimeter_error(ImageReference.parse, filled)) != filled:
            raise ValueError("image must be a complete reference when its fields are filled in")
        return self


class ExcludeModel(_Model):
    """One entry of ``rules.exclude``."""

    image: Text
    reason: Text
    object: Text = "*"
    path: Text = "*"


class NotImageModel(_Model):
    """One entry of ``rules.not_images``."""

    text: Text
    reason: Text
    object: Text = "*"
    path: Text = "*"


class RulesModel(_Model):
    """``rules``: what discovery must be told about this component."""

    compose: list[ComposeModel] = Field(default_factory=list)
    exclude: list[ExcludeModel] = Field(default_factory=list)
    not_images: list[NotImageModel] = Field(default_factory=list)


class ComponentModel(_Model):
    """A whole component.yaml."""

    name: Name
    title: Text
    version: Version
    licence: Licence
    source: HttpsUrl
    phase: Annotated[Phase, Field(strict=False)]
    needs: list[Name] = Field(default_factory=list)
    provides: list[Name] = Field(default_factory=list)
    images: list[ImageModel] = Field(default_factory=list)
    built_images: list[BuiltImageModel] = Field(default_factory=list)
    images_from: ImagesFromModel | None = None
    charts: list[ChartModel] = Field(default_factory=list)
    files: list[FileModel] = Field(default_factory=list)
    manifests: list[ManifestModel] = Field(default_factory=list)
    kustomizations: list[KustomizationModel] = Field(default_factory=list)
    licences: list[LicenceModel] = Field(default_factory=list)
    ready: list[ReadyModel] = Field(default_factory=list)
    coherence: list[ProductModel] = Field(default_factory=list)
    rules: RulesModel = RulesModel()
    site_tags: list[SiteTagModel] = Field(default_factory=list)


class JumpHostModel(_Model):
    """``jump_host`` of a release: what the wheelhouse must work with."""

    pythons: Annotated[list[PythonVersion], Field(min_length=1)]


class AcceptModel(_Model):
    """One entry of ``accept``: a finding of the coherence rules, and why it may stay."""

    finding: FindingId
    reason: Text


class ReleaseModel(_Model):
    """A whole releases/<name>.yaml."""

    name: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z.-]{0,62}$")]
    number: Annotated[int, Field(ge=1, lt=2**31)]
    platforms: Annotated[list[PlatformText], Field(min_length=1)]
    minimum_installer: Version
    jump_host: JumpHostModel
    components: Annotated[list[Name], Field(min_length=1)]
    accept: list[AcceptModel] = Field(default_factory=list)


Model = TypeVar("Model", bound=BaseModel)


def read_model(model: type[Model], document: YamlDocument, problems: list[str]) -> Model | None:
    """``document`` as ``model``; when it does not fit, None and every reason in ``problems``."""
    if not isinstance(document.value, dict):
        problems.append(document.problem((), "must be a mapping of keys to values"))
        return None
    try:
        return model.model_validate(document.value)
    except ValidationError as error:
        for found in error.errors(include_url=False, include_context=False):
            text = found["msg"].removeprefix("Value error, ")
            if found["type"] == "extra_forbidden":
                text = f"unknown key; there are {', '.join(_keys_at(model, found['loc']))}"
            elif found["type"] == "string_type" and isinstance(found["input"], int | float):
                text = f"must be a string; put {found['input']!r} in quotes"
            problems.append(document.problem(tuple(found["loc"]), text))
        return None


def _keys_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The keys allowed beside the unknown one at ``path``."""
    for part in path[:-1]:
        if isinstance(part, str):
            model = _model_inside(model.model_fields[part].annotation)
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_inside(annotation: object) -> type[BaseModel]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_inside(inner)
        if found is not BaseModel:
            return found
    return BaseModel
