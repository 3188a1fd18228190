"""One way from a string in a place to a finding; every extractor ends here."""

from __future__ import annotations

from collections.abc import Sequence

from perimeter_bundle.discover.compose import Composed
from perimeter_bundle.discover.findings import Findings, Pending
from perimeter_bundle.discover.judge import judge_into
from perimeter_bundle.discover.placeholders import has_placeholder, neutral
from perimeter_bundle.discover.shapes import is_unmistakable, without_scheme
from perimeter_bundle.discover.values import Place
from perimeter_bundle.discover.words import Position

MAX_WRITTEN = 1024
Locals = Sequence[tuple[str, str]]


def note(
    findings: Findings,
    text: str,
    promise: Position,
    place: Place,
    rule: str,
    *,
    written: str | None = None,
    local: Locals = (),
    name: str = "",
) -> bool:
    """Judges ``text``, or keeps it until its placeholders can be resolved; whether it did."""
    if len(text) > MAX_WRITTEN:
        return False
    if has_placeholder(text):
        form = without_scheme(neutral(text.strip().strip("\"'")))
        is_one = promise >= Position.STRONG and "://" not in form
        if is_one or is_unmistakable(form):
            findings.pending.append(Pending(text.strip(), place, rule, tuple(local)))
            return True
        if promise < Position.STRONG:
            return False
    return judge_into(findings, text, promise, place, rule, written=written, name=name)


def note_composed(
    findings: Findings, found: Composed, place: Place, rule: str, local: Locals = ()
) -> None:
    """Notes what was put together; without any tag it is still a part, and a question."""
    if "@" in found.text or ":" in found.text.rpartition("/")[2]:
        note(
            findings,
            found.text,
            Position.CONTAINER,
            place,
            rule,
            written=found.written,
            local=local,
        )
    else:
        findings.repository(found.text, place, "put together from parts, and none is a tag")
