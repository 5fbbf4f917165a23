"""Damage for bytes: what disks, uploads and editors do to files, and what an attacker would try."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_PIECES = (
    b"\0" * 64,
    b"\xff" * 64,
    b"Exif\0\0garbage",
    b"\r\n",
    b'"',
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"..",
    b"\xff\xda",
)


def mutated(data: bytes, chance: random.Random, corpus: Sequence[bytes] = ()) -> bytes:
    """The bytes after one to six kinds of damage.

    Args:
        data: A valid file.
        chance: Decides everything.
        corpus: Other files, of which pieces are pasted in.
    """
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        _damage(out, chance, corpus)
    return bytes(out)


def _damage(out: bytearray, chance: random.Random, corpus: Sequence[bytes]) -> None:
    if not out:
        out += chance.choice(_PIECES)
        return
    # Half of the damage goes to the first kilobyte, where headers are.
    at = chance.randrange(min(len(out), 1024) if chance.random() < 0.5 else len(out))
    length = min(chance.choice((1, 2, 4, 16, 256)), len(out) - at)
    match chance.randrange(9):
        case 0:
            out[at] ^= 1 << chance.randrange(8)
        case 1:
            out[at] = chance.randrange(256)
        case 2:  # a number of two or four bytes, which may be a length, an offset or a count
            number, order = chance.choice(_EXTREMES), chance.choice("<>")
            packed = (
                struct.pack(f"{order}I", number) if chance.random() < 0.5 else struct.pack(f"{order}H", number & 0xFFFF)
            )
            out[at : at + len(packed)] = packed
        case 3:
            del out[at:]
        case 4:
            del out[at : at + length]
        case 5:
            out[at:at] = out[at : at + length]
        case 6:
            out[at:at] = chance.choice(_PIECES)
        case 7:
            out[at : at + length] = chance.randbytes(length)
        case _:
            other = chance.choice(corpus) if corpus else bytes(out)
            start = chance.randrange(len(other)) if other else 0
            out[at:at] = other[start : start + chance.choice((4, 32, 512))]
