"""Plain text for people: sizes, durations, tables. Pure functions, no terminal needed."""

from __future__ import annotations

from collections.abc import Sequence

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def human_bytes(size_bytes: int) -> str:
    """``size_bytes`` with a unit a person reads: ``41.2 MiB``."""
    size = float(size_bytes)
    for unit in _UNITS:
        if abs(size) < 1024 or unit == _UNITS[-1]:
            break
        size /= 1024
    return f"{size_bytes} B" if unit == "B" else f"{size:.1f} {unit}"


def human_share(done_bytes: int, total_bytes: int | None) -> str:
    """``282.6 of 585.8 MiB``: both in the unit of the whole; alone when that is not known."""
    if total_bytes is None:
        return human_bytes(done_bytes)
    whole, unit = human_bytes(total_bytes).split()
    if unit == "B":
        return f"{done_bytes} of {whole} B"
    return f"{done_bytes / 1024 ** _UNITS.index(unit):.1f} of {whole} {unit}"


def human_duration(seconds: float) -> str:
    """``seconds`` as ``8 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def text_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, indent: str = "") -> str:
    """Columns aligned with spaces, nothing cut off; numbers-with-units columns stay left.

    Lines end without trailing spaces, so the same rows always give the same text.
    """
    table = [list(headers), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(headers))]
    lines = []
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def printable(text: str) -> str:
    """``text`` without control characters: what a server sent must not steer a terminal."""
    return "".join(
        char if char.isprintable() or char == "\n" else f"\\x{ord(char):02x}" for char in text
    )
