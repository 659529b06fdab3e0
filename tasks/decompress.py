"""Files that may be compressed, read in chunks of bounded size whatever they decompress to.

The codec is told by a file's first bytes, not by its name: a rotated file has any name.
"""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
import pyarrow as pa

CHUNK = 1 << 20
# An xz file may ask for a dictionary of 4 GiB; level 9 asks for 65 MiB.
XZ_MEMORY = 256 << 20

GZIP, BZIP2, XZ = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00"
ARROW_CODECS = {b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}

# What reading a file that is damaged raises.
DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException)


@contextmanager
def opened(uri: str) -> Iterator[Iterator[bytes]]:
    """The content of a file, decompressed, in chunks of at most CHUNK bytes.

    A damaged file gives all that can be had of it, then raises one of DAMAGED.
    """
    with fsspec.open(uri, "rb") as file:
        start = file.read(6)
        file.seek(0)
        yield _chunks(file, start)


def _chunks(file: Any, start: bytes) -> Iterator[bytes]:
    if start.startswith(GZIP):
        with gzip.GzipFile(fileobj=file) as unzipped:
            while chunk := unzipped.read1(CHUNK):
                yield chunk
    elif start.startswith(BZIP2):
        yield from _decompressed(file, bz2.BZ2Decompressor)
    elif start.startswith(XZ):
        yield from _decompressed(file, lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY))
    elif codec := ARROW_CODECS.get(start[:4]):
        with pa.CompressedInputStream(pa.PythonFile(file, "r"), codec) as stream:
            while chunk := stream.read(CHUNK):
                yield chunk
    else:
        while chunk := file.read(CHUNK):
            yield chunk


def _decompressed(file: Any, new: Callable[[], Any]) -> Iterator[bytes]:
    """Streams in a row, as `cat a.xz b.xz` makes them."""
    stream, data = new(), b""
    while True:
        if stream.eof:
            data = stream.unused_data or file.read(CHUNK)
            if not data.strip(b"\x00"):  # padding, or the end
                return
            stream = new()
        elif stream.needs_input:
            data = file.read(CHUNK)
            if not data:
                raise EOFError("compressed file ended before its end-of-stream marker")
        else:
            data = b""
        if chunk := stream.decompress(data, CHUNK):
            yield chunk
