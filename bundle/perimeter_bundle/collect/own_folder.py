"""A folder of the user's own with charts and kustomizations somewhere below it, as its objects.

1. Every chart's folder and every kustomization that no other one below the folder includes is
   rendered. What a chart's folder holds, and every file that a rendered kustomization reaches, is
   seen through its render alone.
2. What cannot be rendered is said and read as plain YAML; of a kustomization, those that it
   includes are then rendered by themselves.
3. Every other file is read as plain YAML.
4. A file under 2. that is no YAML at all is left over as a question: nothing is dropped silently.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from perimeter_bundle.collect.chart_folder import is_chart, render_own_chart
from perimeter_bundle.collect.own_kustomization import find_kustomize, is_kustomization
from perimeter_bundle.discover.files import list_objects, read_object_file
from perimeter_bundle.discover.stream import read_documents
from perimeter_bundle.discover.values import Place, Unclassified
from perimeter_bundle.format.files import read_file
from perimeter_bundle.model.errors import InputError, IntegrityError, PerimeterError
from perimeter_bundle.render.kustomize import render_folder
from perimeter_bundle.sources.kustomization import (
    FILE_NAMES,
    MAX_KUSTOMIZATION_BYTES,
    Expects,
    check_plugin,
    read_references,
)

MAX_RENDERS = 5000  # no honest folder holds more charts and kustomizations
MAX_WORKERS = 4  # one more does not help: the objects are looked at by one processor
_MAX_REASON = 500
_SHOWN_NAMES = 5
_MAX_PATH = 1024  # a patch may stand where a path may

OnNote = Callable[[str], None]


@dataclass(slots=True)
class OwnFolder:
    """One reading of ``root``; ``unread`` is complete once all objects were taken.

    ``program`` is the kustomize to render with; None looks for one in ``search_path``.
    """

    root: Path
    program: Path | None
    search_path: str
    work: Path
    on_note: OnNote
    unread: list[Unclassified] = field(default_factory=list)

    def objects(self) -> Iterator[tuple[str, bytes]]:
        """Name and bytes of each render and of each file that no render stands for.

        Raises InputError[no-objects], [too-many-folders], [bad-manifest-file], HostError.
        """
        self.root = self.root.resolve()
        charts, kustomizations = _find_folders(self.root)
        failed: dict[Path, str] = {}
        rendered_charts = []
        for folder in charts:
            try:
                yield self._name(folder), render_own_chart(folder, self.on_note)[1]
                rendered_charts.append(folder)
            except (InputError, IntegrityError) as error:
                details = [*error.problems, *map(str, error.context.values())]
                failed[folder] = ": ".join([error.message, *details[-1:]])
        self._note(failed)
        seen: set[Path] = set()
        if kustomizations:
            yield from self._kustomizations(kustomizations, seen, failed)
        for file in list_objects(self.root):
            if file in seen or any(file.is_relative_to(chart) for chart in rendered_charts):
                continue
            yield from self._raw(file, failed)

    def _kustomizations(
        self, folders: Mapping[Path, _Reached], seen: set[Path], failed: dict[Path, str]
    ) -> Iterator[tuple[str, bytes]]:
        """The renders; ``seen`` gets every file that one of them stands for."""
        try:
            program = find_kustomize(self.program, self.search_path, self.root)
        except InputError as error:
            failed |= dict.fromkeys(folders, error.message)
            self._note(dict.fromkeys(folders, f"{error.message}; {error.hint}"))
            return
        done: set[Path] = set()  # rendered, or reached by what was
        waiting = _roots(folders)
        with ThreadPoolExecutor(min(MAX_WORKERS, os.cpu_count() or 1)) as pool:
            while waiting:
                reasons: dict[Path, str] = {}
                # a few at a time: renders are large, and only these are held at once
                for some in _batches(waiting):
                    tries = pool.map(lambda one: self._render(program, one, folders), some)
                    for folder, data in zip(some, tries, strict=True):
                        if isinstance(data, str):
                            reasons[folder] = data
                            continue
                        inside = _closure(folder, folders)
                        done |= inside
                        seen.update(*(folders[one].files for one in inside))
                        yield self._name(folder), data
                self._note(reasons)
                failed |= reasons
                children = {inner for folder in reasons for inner in folders[folder].folders}
                waiting = sorted(children - done - set(failed))

    def _render(self, program: Path, folder: Path, folders: Mapping[Path, _Reached]) -> bytes | str:
        """The objects, or why there are none."""
        missing = [
            f"{self._name(one)} refers to {text}"
            for one in sorted(_closure(folder, folders))
            for text in folders[one].missing
        ]
        if missing:
            return f"{'; '.join(missing[:3])}, which is not here"
        try:
            return render_folder(program, folder, self.work)
        except IntegrityError as error:
            text = " ".join([error.message, *error.problems[-1:]])
            return text.replace(f"{self.root}/", "")[:_MAX_REASON]

    def _raw(self, file: Path, failed: Mapping[Path, str]) -> Iterator[tuple[str, bytes]]:
        name, data = file.relative_to(self.root).as_posix(), read_object_file(file)
        why = next((failed[folder] for folder in file.parents if folder in failed), None)
        if why is not None:
            try:
                for _ in read_documents(name, data):
                    pass
            except InputError as error:
                place = Place(name, "the whole file", "")
                self.unread.append(Unclassified(file.name, place, f"{error.message}; {why}"))
                return
        yield name, data

    def _note(self, reasons: Mapping[Path, str]) -> None:
        """One line for each reason, however many folders it is true of."""
        for reason in dict.fromkeys(reasons.values()):
            names = [self._name(folder) for folder, one in reasons.items() if one == reason]
            shown = ", ".join(names[:_SHOWN_NAMES])
            if len(names) > _SHOWN_NAMES:
                shown += f" and {len(names) - _SHOWN_NAMES} more"
            self.on_note(f"read as plain YAML: {shown}: {reason}")

    def _name(self, folder: Path) -> str:
        return folder.relative_to(self.root).as_posix()


@dataclass(frozen=True, slots=True)
class _Reached:
    """What a kustomization refers to."""

    folders: frozenset[Path]  # of other kustomizations below the root
    files: frozenset[Path]  # its own file too
    missing: tuple[str, ...] = ()  # addresses, and paths at which nothing is


def _find_folders(root: Path) -> tuple[list[Path], dict[Path, _Reached]]:
    """Charts that are in no other, and kustomizations that are in no chart."""
    charts: list[Path] = []
    found: list[Path] = []
    for name, folders, _ in os.walk(root):
        folder = Path(name)
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        if is_chart(folder):
            charts.append(folder)
            folders.clear()
        elif is_kustomization(folder):
            found.append(folder)
        if len(charts) + len(found) > MAX_RENDERS:
            raise InputError(
                "too-many-folders",
                f"{root} holds more than {MAX_RENDERS} charts and kustomizations",
                hint="give a folder below it",
            )
    known = frozenset(found)
    return charts, {folder: _reached(folder, known) for folder in found}


def _reached(folder: Path, known: frozenset[Path]) -> _Reached:
    own = next(folder / name for name in FILE_NAMES if (folder / name).is_file())
    folders: set[Path] = set()
    files, missing = {own}, []
    try:
        references = read_references(read_file(own, MAX_KUSTOMIZATION_BYTES), str(own))
    except PerimeterError:
        return _Reached(frozenset(), frozenset(files))  # kustomize says what is wrong with it
    for one in references:
        target = _target(folder, one.text)
        if target is None:
            missing += [] if one.expects is Expects.FILE_OR_TEXT else [one.text]
        elif target in known:
            folders.add(target)
        else:
            files.add(target)
            if one.expects is Expects.PLUGIN:
                files |= _plugin_files(folder, target)
    return _Reached(frozenset(folders), frozenset(files), tuple(missing))


def _plugin_files(folder: Path, configuration: Path) -> set[Path]:
    try:
        paths = check_plugin(read_file(configuration, MAX_KUSTOMIZATION_BYTES), str(configuration))
    except PerimeterError:
        return set()
    return {target for path in paths if (target := _target(folder, path)) is not None}


def _target(folder: Path, text: str) -> Path | None:
    if len(text) > _MAX_PATH or "\n" in text or "\0" in text:
        return None
    try:
        is_there = (folder / text).exists()
    except OSError:  # a name that is too long is none
        is_there = False
    return Path(os.path.normpath(folder / text)) if is_there else None


def _roots(folders: Mapping[Path, _Reached]) -> list[Path]:
    """Those that no other one includes; of a circle, one, so that kustomize says what it is."""
    included = {inner for folder, one in folders.items() for inner in one.folders - {folder}}
    roots = sorted(set(folders) - included)
    reached = {inner for root in roots for inner in _closure(root, folders)}
    for folder in sorted(folders):
        if folder not in reached:
            roots.append(folder)
            reached |= _closure(folder, folders)
    return roots


def _batches(folders: Sequence[Path]) -> Iterator[Sequence[Path]]:
    for start in range(0, len(folders), MAX_WORKERS):
        yield folders[start : start + MAX_WORKERS]


def _closure(folder: Path, folders: Mapping[Path, _Reached]) -> set[Path]:
    found: set[Path] = set()
    waiting = [folder]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += folders[one].folders
    return found
