"""Read data files in a wrong encoding or container, and hold what is said against the right word.

    python benchmarks/fuzz/containers.py

Each file must be taken, or refused in one sentence with its name and the word that helps (D2).
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import sys
import tempfile
import zipfile
from pathlib import Path

import zstandard
from data_rows import ROWS, bombs, codec, pack, run
from harness import arguments, is_no_sentence, record

LINE = '{"text": "Grüße, naïve café, 日本語"}\n'
CSV = "question,answer\nWas?,Grüße\nWo?,Café\n"
JSONL = pack(ROWS["qa"], "jsonl")
JSON = pack(ROWS["qa"], "json")


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        packed.writestr("../../etc/evil.jsonl", JSONL)
    return out.getvalue()


def _tar() -> bytes:
    import tarfile

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as packed:
        info = tarfile.TarInfo("../evil.jsonl")
        info.size = len(JSONL)
        packed.addfile(info, io.BytesIO(JSONL))
    return out.getvalue()


def cases() -> list[tuple[str, bytes, str]]:
    """Give (file name, bytes, pattern of what is said; `taken` where it is simply read)."""
    zst, gz = zstandard.compress(JSONL * 50), gzip.compress(JSONL * 50)
    parquet = pack(ROWS["qa"], "parquet")
    utf8 = "UTF-8|UTF-16|NUL"
    return [
        ("bom.jsonl", b"\xef\xbb\xbf" + JSONL, "taken"),
        ("bom.json", b"\xef\xbb\xbf" + JSON, "taken"),
        ("bom.csv", b"\xef\xbb\xbf" + CSV.encode(), "taken"),
        ("two-boms.jsonl", b"\xef\xbb\xbf\xef\xbb\xbf" + JSONL, "line 1"),
        ("crlf.jsonl", JSONL.replace(b"\n", b"\r\n"), "taken"),
        ("cr.jsonl", JSONL.replace(b"\n", b"\r"), "line 1"),
        ("crlf.csv", CSV.replace("\n", "\r\n").encode(), "taken"),
        ("no-end.jsonl", JSONL.rstrip(b"\n"), "taken"),
        ("blank-lines.jsonl", b"\n\n" + JSONL + b"\n\n", "taken"),
        ("only-blank.jsonl", b"\n\n\n", "empty"),
        ("empty.jsonl", b"", "empty"),
        ("empty.json", b"", "empty"),
        ("empty.csv", b"", "empty"),
        ("empty.parquet", b"", "damaged|empty"),
        ("empty.gz.jsonl.gz", b"", "damaged|empty"),
        ("empty-inside.jsonl.gz", gzip.compress(b""), "empty"),
        ("empty.jsonl.zst", b"", "damaged|empty"),
        ("latin1.jsonl", LINE.replace("日本語", "").encode("latin-1"), utf8),
        ("cp1252.csv", CSV.encode("cp1252"), utf8),
        ("utf16.jsonl", LINE.encode("utf-16"), utf8),
        ("utf16le.jsonl", LINE.encode("utf-16-le"), utf8),
        ("utf16be.csv", CSV.encode("utf-16-be"), utf8),
        ("utf32.jsonl", LINE.encode("utf-32"), utf8),
        ("shift-jis.txt", "日本語\n".encode("shift-jis") * 9, utf8),
        ("gb18030.txt", "中文\n".encode("gb18030") * 9, utf8),
        ("utf7.jsonl", LINE.encode("utf-7"), "taken|JSON"),
        ("overlong.jsonl", b'{"text": "\xc0\xaf"}\n', utf8),
        ("surrogate.jsonl", b'{"text": "\xed\xa0\x80"}\n', utf8),
        ("escaped-surrogate.jsonl", b'{"text": "\\ud800"}\n', "line 1"),
        ("cut-character.jsonl", LINE.encode()[:-8], utf8),
        ("nul.jsonl", JSONL.replace(b"q 1", b"q\0"), "NUL"),
        ("nul.csv", CSV.replace("Wo", "W\0").encode(), "NUL"),
        ("nul.json", JSON.replace(b"q 1", b"q\0"), "NUL"),
        ("nan.jsonl", b'{"text": NaN}\n', "NaN"),
        ("infinity.json", b'[{"text": -Infinity}]', "Infinity|valid JSON"),
        ("comma.json", JSON[:-1] + b",]", "line 1, column"),
        ("comment.json", b"// hello\n" + JSON, "line 1, column"),
        ("quotes.jsonl", b"{'text': 'a'}\n", "line 1"),
        ("two-rows-a-line.jsonl", JSONL.replace(b"\n", b" ", 1), "line 1"),
        ("rows.json", JSONL, "jsonl"),
        ("list.jsonl", JSON, "object"),
        ("number.json", b"3", "list of rows"),
        ("nested.json", b'{"data": ' + JSON + b"}", "data"),
        ("cut.json", JSON[:-20], "valid JSON"),
        ("cut.jsonl", JSONL[:-20], "line 6"),
        ("cut.jsonl.gz", gz[: len(gz) // 2], "damaged"),
        ("cut.jsonl.zst", zst[: len(zst) // 2], "damaged"),
        ("flipped.jsonl.gz", gz[:40] + bytes([gz[40] ^ 255]) + gz[41:], "damaged"),
        ("rubbish-after.jsonl.gz", gz + b"rubbish", "damaged"),
        ("two-parts.jsonl.gz", gz + gz, "taken"),
        ("two-frames.jsonl.zst", zst + zst, "taken"),
        ("plain.jsonl.gz", JSONL, "damaged"),
        ("plain.jsonl.zst", JSONL, "damaged"),
        ("gzip-inside.jsonl", gz, r"gzip.*name it gzip-inside\.jsonl\.gz"),
        ("zip.jsonl.gz", _zip(), "zip archive.*unpack it"),
        ("gzip.txt", gz, r"gzip.*name it gzip\.txt\.gz"),
        ("gzip-twice.jsonl.gz", gzip.compress(gz), "gzip.*unpack it once"),
        ("gzip.jsonl.zst", gz, r"gzip.*name it gzip\.jsonl\.gz"),
        ("zstd.csv", zst, r"zstandard.*name it zstd\.csv\.zst"),
        ("zip.jsonl", _zip(), "zip archive.*unpack it"),
        ("tar.jsonl", _tar(), "tar archive.*unpack it"),
        ("tar.jsonl.gz", gzip.compress(_tar()), "tar archive.*unpack it"),
        ("bzip2.jsonl", bz2.compress(JSONL), "bzip2.*unpack it"),
        ("xz.json", lzma.compress(JSON), "xz.*unpack it"),
        ("parquet.jsonl", parquet, r"parquet.*name it parquet\.parquet"),
        ("pdf.txt", b"%PDF-1.7\n%\xe2\xe3\n1 0 obj\n", "PDF.*save its text"),
        ("elf.jsonl", b"\x7fELF\x02\x01\x01" + b"\0" * 90, "ELF"),
        ("rows.zip", _zip(), "unknown kind"),
        ("rows.tar", _tar(), "unknown kind"),
        ("rows.tar.gz", gzip.compress(_tar()), "unknown kind"),
        ("rows.bz2", b"BZh9", "unknown kind"),
        ("rows.pkl", b"cos\nsystem\n(S'touch canary'\ntR.", "unknown kind"),
        ("cut.parquet", parquet[:-30], "damaged"),
        ("headless.parquet", b"XXXX" + parquet[4:], "damaged|taken"),
        ("text.parquet", JSONL, "damaged"),
        ("semicolons.csv", CSV.replace(",", ";").encode(), "comma"),
        ("open-quote.csv", b'question,answer\n"a,b\nc,d\n', "quotation"),
        ("more-fields.csv", CSV.encode() + b"a,b,c\n", "fields"),
        ("no-header.csv", b"1,2\n3,4\n", "first line"),
        ("same-names.csv", b"a,a\n1,2\n", "first line"),
        *[(f"bomb-{n}-{name}", raw, "") for n, (name, raw) in enumerate(bombs()) if n != 3],
    ]


def main() -> int:
    """Read each."""
    from tunebook.errors import TunebookError

    options = arguments(__doc__, 0)
    codec()
    failed = []
    every = cases()
    for name, raw, pattern in every:
        with tempfile.TemporaryDirectory() as folder:
            try:
                said = run(Path(folder), {"name": name, "raw": raw, "format": "auto"})
            except TunebookError as error:
                said = str(error)
                if is_no_sentence(said) or name not in said:
                    failed.append(f"{name}: {said}")
            except BaseException as error:
                failed.append(f"{name}: {type(error).__name__}: {error}")
                continue
            if not re.search(pattern, said):
                failed.append(f"{name}: {said[:300]!r} has nothing of {pattern!r}")
            if (Path(folder) / "canary").exists() or Path("canary").exists():
                failed.append(f"{name}: it ran")
    for line in failed:
        print("FAILED", line[:500])
    print(f"containers: {len(every)} cases, {len(failed)} failed")
    if options.write:
        words = "A file in a wrong encoding or container is named with the word that helps"
        record("containers", words, ("D2",), len(every), len(failed), options.seed, (), {})
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
