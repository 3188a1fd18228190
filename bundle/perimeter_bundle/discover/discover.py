"""Which images objects need, and why; and every string nobody can explain.

1. Documents are read one at a time; every value is walked with its surroundings, strings that hold
   documents, text or source code are opened (walk.py, extract/). Custom resources wait for the
   definition of their kind and are read by its schema (waiting.py, meaning.py).
2. When all is read, placeholders and source code are resolved with the values found on the way.
3. Names without a tag are explained when an image was put together from them.
4. The catalog's rules come last; those that match nothing are reported.
"""

from __future__ import annotations

from collections.abc import Iterable

from perimeter_bundle.discover.apply_rules import RuleUse, apply_rules
from perimeter_bundle.discover.extract.python_source import python_images
from perimeter_bundle.discover.findings import Findings
from perimeter_bundle.discover.meaning import Schemas
from perimeter_bundle.discover.placeholders import resolve_pending
from perimeter_bundle.discover.rules import NO_RULES, Rules
from perimeter_bundle.discover.stream import read_documents
from perimeter_bundle.discover.values import Discovery
from perimeter_bundle.discover.waiting import Waiting
from perimeter_bundle.discover.walk import walk_document


def discover(documents: Iterable[tuple[str, bytes]], rules: Rules = NO_RULES) -> Discovery:
    """What the objects in ``documents`` (source name, YAML or JSON) need, by ``rules`` too.

    Raises InputError[bad-manifest-file], which names the file and the object.
    """
    findings = Findings()
    use = RuleUse(rules)
    schemas = Schemas()
    waiting = Waiting(schemas)
    for source, data in documents:
        for document in read_documents(source, data):
            use.look_at(document)
            for ready in waiting.after(document):
                walk_document(ready, findings, schemas.of(ready.tree))
    for left in waiting.rest():
        walk_document(left, findings)
    for pending_source in findings.sources:
        python_images(pending_source, findings)
    for pending in findings.pending:
        resolve_pending(pending, findings)
    _explain_repositories(findings)
    return apply_rules(findings, use)


def _explain_repositories(findings: Findings) -> None:
    """A name without a tag is part of an image that was put together, or a question."""
    names = {reference.name for reference in findings.images}
    for text, place, why in sorted(findings.repositories):
        name = text.strip().strip("\"'").rstrip("/")
        if any(known == name or known.startswith(f"{name}/") for known in names):
            findings.no_image(text, place, "part-of-an-image")
        else:
            findings.unclear(text, place, why)
