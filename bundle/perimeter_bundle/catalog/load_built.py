"""``built_images`` of a component.yaml → values; says what its parts make of each other."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from perimeter_bundle.catalog.built import BuiltImageSpec, GoRecipe, made_files
from perimeter_bundle.catalog.schema import BuiltImageModel, ComponentModel
from perimeter_bundle.catalog.strict_yaml import KeyPath, YamlDocument
from perimeter_bundle.model.reference import ImageReference

SCRATCH = "scratch"


def built_image(one: BuiltImageModel, component: ComponentModel, folder: Path) -> BuiltImageSpec:
    """The value of a checked entry."""
    return BuiltImageSpec(
        reference=ImageReference.parse(one.reference),
        why=one.why,
        licence=one.licence or component.licence,
        go=GoRecipe(
            module=one.go.module,
            version=one.go.version,
            sum=one.go.sum,
            package=one.go.package,
            go=one.go.go,
            ldflags=tuple(one.go.ldflags),
            tags=tuple(sorted(one.go.tags)),
        ),
        base=None if one.base == SCRATCH else ImageReference.parse(one.base),
        user=str(one.user),
        entrypoint=tuple(one.entrypoint),
        command=tuple(one.command),
        paths=tuple(sorted(one.paths)),
        files=tuple((path, folder / name) for path, name in sorted(one.files.items())),
    )


def built_image_problems(
    model: ComponentModel, document: YamlDocument, folder: Path
) -> Iterable[str]:
    """What one field cannot say about itself."""
    for index, one in enumerate(model.built_images):
        where: KeyPath = ("built_images", index)
        if "@" in one.reference:
            yield document.problem((*where, "reference"), "what is built has a tag, no digest")
        for path, name in one.files.items():
            if not (folder / name).is_file():
                text = f"there is no file {name} beside it"
                yield document.problem((*where, "files", path), text)
            if path in one.paths:
                yield document.problem((*where, "files", path), "the program lies there")
        everything = [*one.paths, *one.files]
        for path in everything:
            if any(other.startswith(f"{path}/") for other in everything):
                yield document.problem(where, f"{path} is a file and a folder")
        if one.base == SCRATCH and one.entrypoint[0] not in everything:
            text = f"there is no {one.entrypoint[0]} in an image on nothing"
            yield document.problem((*where, "entrypoint"), text)
    listed = {image.reference for image in model.images}
    for index, one in enumerate(model.built_images):
        if one.reference in listed:
            where = ("built_images", index, "reference")
            yield document.problem(where, f"{one.reference} stands under images too")
    names = [one.reference.partition(":")[0].rpartition("/")[2] for one in model.built_images]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield document.problem(("built_images",), f"two images are called {name}")
    taken = {file.name for file in model.files}
    for name in names:
        for made in made_files(name):
            if made in taken:
                yield document.problem(("files",), f"{made} is made with the image {name}")
