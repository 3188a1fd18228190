"""Reed–Solomon over cells: as many lost ones are found again as there are parity cells.

The code is ISA-L's Cauchy matrix through pyeclib (liberasurecode): any so many of all cells give
the others. Its fragments carry a header each that depends on nothing but sizes and place; it is
taken off here, and put back before cells are given to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyeclib.ec_iface import ECDriver

MAX_CELLS = 32  # liberasurecode knows no more in one stripe
_HEADER_BYTES = 80
_AT_ONCE_BYTES = 8 * 1024  # of each cell: what is larger, malloc maps and faults in anew each time


class Stripes:
    """The code for ``data`` cells and ``parity`` more of ``cell_bytes`` each."""

    def __init__(self, data: int, parity: int, cell_bytes: int) -> None:
        self.data, self.parity, self.cell_bytes = data, parity, cell_bytes
        self._driver = ECDriver(ec_type="isa_l_rs_cauchy", k=data, m=parity)
        empty = self._driver.encode(bytes(data * cell_bytes))
        self._headers = [fragment[:_HEADER_BYTES] for fragment in empty]
        if any(len(fragment) != _HEADER_BYTES + cell_bytes for fragment in empty):
            raise AssertionError("liberasurecode lays out its fragments in another way")

    def encode(self, cells: Sequence[bytes]) -> list[bytes]:
        """The parity cells of all data cells in their order; each byte follows from one of each."""
        views = [memoryview(cell) for cell in cells]
        found = [bytearray() for _ in range(self.parity)]
        for start in range(0, self.cell_bytes, _AT_ONCE_BYTES):
            part = b"".join([view[start : start + _AT_ONCE_BYTES] for view in views])
            fragments = self._driver.encode(part)[self.data :]
            for parity, fragment in zip(found, fragments, strict=True):
                parity += memoryview(fragment)[_HEADER_BYTES:]
        return [bytes(parity) for parity in found]

    def rebuild(self, known: Mapping[int, bytes], lost: Sequence[int]) -> list[bytes]:
        """The lost cells, from at least ``data`` known ones by place; parity follows the data."""
        fragments = [self._headers[place] + cell for place, cell in sorted(known.items())]
        found = self._driver.reconstruct(fragments, list(lost))
        return [fragment[_HEADER_BYTES:] for fragment in found]
