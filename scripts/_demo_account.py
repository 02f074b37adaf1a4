"""Makes the files of the demo's account: the same bytes every time, from nothing but the standard library."""

from __future__ import annotations

import random
import struct
import zipfile
import zlib
from pathlib import Path

__all__ = ["BIG_FILE", "build"]

MIB = 1024 * 1024
BIG_FILE = "Backups/disk image.img"
BIG_FILE_MIB = 200

WORDS = (
    "account bridge cloud daily evening folder garden harbour island journey kitchen letter market "
    "notebook orange paper quiet river summer travel under valley winter yellow"
).split()


def build(tree: Path) -> None:
    """Fill the folder `tree` with about 300 files; 200 MiB by name, a few MiB on the disk."""
    chance = random.Random(2025)  # noqa: S311  # the same account every time, nothing secret
    _documents(tree / "Documents", chance)
    _pictures(tree / "Pictures", chance)
    _projects(tree / "Projects", chance)
    _archive(tree / "Archive", chance)
    _big_file(tree / BIG_FILE)
    _write(tree / "Welcome.md", "# Welcome\n\nThis account is made up. Change what you like.\n")


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def _prose(chance: random.Random, paragraphs: int) -> str:
    def sentence() -> str:
        return " ".join(chance.choices(WORDS, k=chance.randint(6, 14))).capitalize() + "."

    return "\n\n".join(" ".join(sentence() for _ in range(5)) for _ in range(paragraphs)) + "\n"


def _documents(folder: Path, chance: random.Random) -> None:
    _write(folder / "Letter.txt", _prose(chance, 4))
    _write(folder / "Übersicht für Zoë.txt", _prose(chance, 2))
    _write(folder / "Minutes" / "2025-03-04 Minutes.md", "# Minutes\n\n" + _prose(chance, 6))
    rows = [f"{month:02},{chance.randint(100, 900)},{chance.randint(100, 900)}" for month in range(1, 13)]
    _write(folder / "Budget.csv", "\n".join(["month,income,expenses", *rows]) + "\n")
    _open_document(folder / "Report.odt", _prose(chance, 8))
    _write(folder / "Invoice.pdf", _pdf("Invoice 2025-17"))


def _open_document(path: Path, text: str) -> None:
    office = "urn:oasis:names:tc:opendocument:xmlns:office:1.0"
    words = "urn:oasis:names:tc:opendocument:xmlns:text:1.0"
    manifest = "urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"
    kind = "application/vnd.oasis.opendocument.text"
    paragraphs = "".join(f"<t:p>{paragraph}</t:p>" for paragraph in text.split("\n\n"))
    parts = {
        "mimetype": kind,
        "content.xml": f'<o:document-content xmlns:o="{office}" xmlns:t="{words}" o:version="1.3">'
        f"<o:body><o:text>{paragraphs}</o:text></o:body></o:document-content>",
        "META-INF/manifest.xml": f'<m:manifest xmlns:m="{manifest}" m:version="1.3">'
        f'<m:file-entry m:full-path="/" m:media-type="{kind}"/>'
        '<m:file-entry m:full-path="content.xml" m:media-type="text/xml"/></m:manifest>',
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            # The type of the whole comes first and uncompressed, so that it can be told from the start.
            packing = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name, (2025, 1, 1, 0, 0, 0)), content, packing)


def _pdf(title: str) -> bytes:
    drawing = f"BT /F1 24 Tf 72 720 Td ({title}) Tj ET".encode()
    fonts = b"<< /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font %s >> >>"
        % fonts,
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawing), drawing),
    ]
    data, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, len(data))
    return data + b"xref\n0 %d\n0000000000 65535 f \n%s%s" % (size, table, trailer)


def _pictures(folder: Path, chance: random.Random) -> None:
    for number in range(1, 13):
        tint = chance.randrange(256), chance.randrange(256), chance.randrange(256)
        _write(folder / "Harbour" / f"Drawing {number:02}.png", _png(640, 480, _sky(640, 480, tint)))
    for number in range(1, 21):
        tint = chance.randrange(256), chance.randrange(256), chance.randrange(256)
        _write(folder / "Winter in the valley" / f"IMG_{number:04}.jpg", _mosaic(80, 60, tint))


def _sky(width: int, height: int, tint: tuple[int, int, int]) -> bytes:
    """Return rows of red, green and blue that change slowly, each after the byte that names its PNG filter."""
    ramps = [bytes((start + x // 4) % 256 for x in range(width)) for start in tint]
    shifts = [bytes((value + shift) % 256 for value in range(256)) for shift in range(256)]
    rows = bytearray()
    for y in range(height):
        row = bytearray(3 * width)
        for colour, ramp in enumerate(ramps):
            row[colour::3] = ramp.translate(shifts[y * (colour + 1) // 3 % 256])
        rows += b"\0" + row
    return bytes(rows)


def _png(width: int, height: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, red green blue, no interlacing
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _mosaic(across: int, down: int, tint: tuple[int, int, int]) -> bytes:
    """Return a JPEG of so many squares of 8 by 8 pixels, whose colours change slowly: each is its mean, without detail.

    SOURCE: ITU-T T.81: B (markers), F.1.2 (Huffman coding of differences of the means, with fixed-length codes here).
    """

    def segment(marker: int, body: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body

    components = (1, 2, 3)  # brightness, blueness, redness
    frame = struct.pack(">BHHB", 8, 8 * down, 8 * across, 3) + b"".join(
        bytes((it, 0x11, 0)) for it in components
    )
    lengths = b"\0\0\0\x0c" + bytes(12)  # of codes: twelve of four bits, for differences of 0 to 11 bits
    scan = bytes((3, *(byte for it in components for byte in (it, 0x00)), 0, 63, 0))
    return (
        b"\xff\xd8"
        + segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0")
        + segment(0xDB, b"\0" + bytes([8] * 64))
        + segment(0xC0, frame)
        + segment(0xC4, b"\x00" + lengths + bytes(range(12)))
        + segment(0xC4, b"\x10" + b"\x01" + bytes(15) + b"\0")  # the only code for details: none
        + segment(0xDA, scan)
        + _squares(across, down, tint)
        + b"\xff\xd9"
    )


def _squares(across: int, down: int, tint: tuple[int, int, int]) -> bytes:
    bits: list[str] = []
    before = [0, 0, 0]
    for place in range(across * down):
        row, column = divmod(place, across)
        for colour in range(3):
            mean = (tint[colour] + (column + row * (colour + 1)) * 2) % 256
            mean -= 128
            difference, before[colour] = mean - before[colour], mean
            size = abs(difference).bit_length()
            value = difference if difference >= 0 else difference + (1 << size) - 1
            bits.append(f"{size:04b}" + (f"{value:0{size}b}" if size else "") + "0")
    stream = "".join(bits)
    stream += "1" * (-len(stream) % 8)
    return int(stream, 2).to_bytes(len(stream) // 8).replace(b"\xff", b"\xff\0")


def _projects(folder: Path, chance: random.Random) -> None:
    deep = folder / "Deep"
    for level in range(1, 16):
        deep /= f"level {level}"
        _write(deep / "note.txt", _prose(chance, 1))
    for name in WORDS[:12]:
        _write(folder / "site" / "src" / f"{name}.py", f'"""{name.capitalize()}."""\n\nVALUE = {len(name)}\n')


def _archive(folder: Path, chance: random.Random) -> None:
    for year in range(2006, 2026):
        for month in range(1, 13):
            _write(folder / f"{year}" / f"{year}-{month:02}.txt", _prose(chance, 1))


def _big_file(path: Path) -> None:
    # Every MiB starts with its number, so that a look into the middle shows what was asked for.
    path.parent.mkdir(parents=True)
    with path.open("wb") as image:
        for number in range(BIG_FILE_MIB):
            image.seek(number * MIB)
            image.write(b"this is MiB %d of the disk image\n" % number)
        image.truncate(BIG_FILE_MIB * MIB)
