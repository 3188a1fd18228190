""".helmignore: which files of a chart's folder are none of the chart.

https://helm.sh/docs/chart_template_guide/helm_ignore_file/ and Helm's pkg/ignore, whose order it
keeps: the first rule that decides wins, and a negated rule leaves out what it does not match.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from perimeter_bundle.format.source_tree import FileTree
from perimeter_bundle.model.errors import IntegrityError

IGNORE_FILE = ".helmignore"
_ALWAYS = "templates/.?*"


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: re.Pattern[str]
    negated: bool
    only_folders: bool
    by_name: bool

    def matches(self, path: str) -> bool:
        text = path.rpartition("/")[2] if self.by_name else path
        return self.pattern.fullmatch(text) is not None


def without_ignored(files: FileTree, what: str) -> Mapping[str, bytes]:
    """What Helm reads of a chart's folder; raises IntegrityError[bad-chart]."""
    text = files.get(IGNORE_FILE, b"").removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    lines = [*text.splitlines(), _ALWAYS]
    rules = [rule for line in lines if (rule := _rule(line.strip(), what))]
    ignored: dict[str, bool] = {}

    def is_left_out(folder: str) -> bool:
        if folder and folder not in ignored:
            above = folder.rpartition("/")[0]
            ignored[folder] = is_left_out(above) or _is_ignored(folder, rules, is_folder=True)
        return bool(folder) and ignored[folder]

    return {
        path: data
        for path, data in files.items()
        if not is_left_out(path.rpartition("/")[0]) and not _is_ignored(path, rules)
    }


def _is_ignored(path: str, rules: list[_Rule], *, is_folder: bool = False) -> bool:
    for rule in rules:
        if rule.negated:
            if (rule.only_folders and not is_folder) or not rule.matches(path):
                return True
        elif (is_folder or not rule.only_folders) and rule.matches(path):
            return True
    return False


def _rule(line: str, what: str) -> _Rule | None:
    if not line or line.startswith("#"):
        return None
    if "**" in line or len(line) > 500:
        raise IntegrityError("bad-chart", f"{what}: {IGNORE_FILE}: Helm does not read {line!r}")
    negated = line.startswith("!")
    text = line.removeprefix("!")
    only_folders = text.endswith("/")
    text = text.removesuffix("/")
    by_name = "/" not in text
    try:
        pattern = re.compile(_expression(text.removeprefix("/")))
    except (re.error, IndexError) as error:
        raise IntegrityError(
            "bad-chart", f"{what}: {IGNORE_FILE}: not a pattern: {line!r}"
        ) from error
    return _Rule(pattern, negated, only_folders, by_name)


def _expression(glob: str) -> str:
    """Go's filepath.Match as a regular expression: no wildcard matches a slash."""
    parts: list[str] = []
    place = 0
    while place < len(glob):
        char = glob[place]
        place += 1
        if char == "*":
            parts.append("[^/]*")
        elif char == "?":
            parts.append("[^/]")
        elif char == "\\":
            parts.append(re.escape(glob[place]))
            place += 1
        elif char == "[":
            end = glob.index("]", place + 1) if "]" in glob[place + 1 :] else -1
            if end < 0:
                raise IndexError("no closing bracket")
            inside = glob[place:end]
            is_not = inside.startswith("^")
            inside = inside.removeprefix("^").replace("\\", "\\\\").replace("[", "\\[")
            parts.append(f"(?!/)[{'^' if is_not else ''}{inside}]")
            place = end + 1
        else:
            parts.append(re.escape(char))
    return "".join(parts)
