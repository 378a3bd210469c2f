"""What goes over the wire to an SMB server, and what comes back, as far as a source of files needs it. Pure.

smbprotocol builds the requests; the answers are read here, with struct, because its own classes take 80 microseconds
for one file of a directory.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

RELATED = b"\xff" * 16
"""The file id that means "of the request before" in a compound."""
EPOCH = 116_444_736_000_000_000
"""1970 in the hundreds of nanoseconds since 1601 that Windows counts."""
FOLDER, LINK = 0x10, 0x400
"""FILE_ATTRIBUTE_DIRECTORY and FILE_ATTRIBUTE_REPARSE_POINT."""
SPECIAL = FOLDER | LINK
LINK_TAGS = (0xA000000C, 0xA0000003)
"""IO_REPARSE_TAG_SYMLINK and IO_REPARSE_TAG_MOUNT_POINT; other reparse points are tiered or deduplicated files."""

SUCCESS, NO_MORE_FILES, END_OF_FILE = 0x00000000, 0x80000006, 0xC0000011
SHARING_VIOLATION, ACCESS_DENIED, LOGON_FAILURE = 0xC0000043, 0xC0000022, 0xC000006D
BAD_NETWORK_NAME, SESSION_GONE, CONNECTION_GONE = 0xC00000CC, 0xC0000203, 0xC000020C
GONE = (
    0xC0000034,  # STATUS_OBJECT_NAME_NOT_FOUND
    0xC000003A,  # STATUS_OBJECT_PATH_NOT_FOUND
    0xC000000F,  # STATUS_NO_SUCH_FILE
    0xC0000056,  # STATUS_DELETE_PENDING
    0xC0000103,  # STATUS_NOT_A_DIRECTORY
    0xC00000BA,  # STATUS_FILE_IS_A_DIRECTORY
    0xC0000033,  # STATUS_OBJECT_NAME_INVALID
    0xC0000024,  # STATUS_OBJECT_TYPE_MISMATCH
    0x8000002D,  # STATUS_STOPPED_ON_SYMLINK
)

LIST_ACCESS, READ_ACCESS, LOOK_ACCESS = 0x00100081, 0x00100081, 0x00100080
"""SYNCHRONIZE and read attributes; the first two also FILE_LIST_DIRECTORY, which for a file is FILE_READ_DATA."""
SHARE_READ, SHARE_ALL = 0x1, 0x7
AS_FOLDER, AS_FILE = 0x21, 0x60
"""FILE_DIRECTORY_FILE, FILE_NON_DIRECTORY_FILE; both with FILE_SYNCHRONOUS_IO_NONALERT."""
ID_FULL_DIRECTORY = 38
"""FileIdFullDirectoryInformation: no short names, whose making costs Samba more than the listing itself."""

_ENTRY = struct.Struct("<I 4x 8x 8x q 8x q 8x I I I 4x Q")
_OPENED = struct.Struct("<8x 8x 8x q 8x 8x q I 4x 16s")
_LISTED = struct.Struct("<2x H I")
_READ = struct.Struct("<2x B x I")
_HEADER = 64
_NAME = 80


class Opened(NamedTuple):
    """What opening a file tells: its id on this connection, and its state."""

    id: bytes
    size: int
    mtime_ns: int


def entries(data: bytes) -> Iterator[tuple[str, int, int, int, int, int]]:
    """Each entry in an answer to QUERY_DIRECTORY: name, size, mtime (ns), attributes, reparse tag, id or 0.

    Plain tuples: a class for each entry doubled the time over 100,000 files.
    """
    offset, length = _LISTED.unpack_from(data)
    at, end = offset - _HEADER, offset - _HEADER + length
    while at < end:
        step, written, size, attributes, name_length, tag, number = _ENTRY.unpack_from(data, at)
        name = data[at + _NAME : at + _NAME + name_length].decode("utf-16-le", "surrogatepass")
        yield name, size, (written - EPOCH) * 100, attributes, tag, number
        if not step:
            return
        at += step


def is_link(attributes: int, tag: int) -> bool:
    """Whether an entry is a symbolic link or a junction that the server leaves to us."""
    return bool(attributes & LINK) and tag in LINK_TAGS


def is_folder(attributes: int, tag: int) -> bool:
    """Whether an entry is a directory, and no junction to one."""
    return bool(attributes & FOLDER) and not is_link(attributes, tag)


def is_file(attributes: int, tag: int) -> bool:
    """Whether an entry is a file, and no link to one."""
    return not attributes & FOLDER and not is_link(attributes, tag)


def opened(data: bytes) -> Opened:
    """The answer to CREATE."""
    written, size, _, number = _OPENED.unpack_from(data)
    return Opened(number, size, (written - EPOCH) * 100)


def content(data: bytes) -> bytes:
    """The bytes in an answer to READ."""
    offset, length = _READ.unpack_from(data)
    return data[offset - _HEADER : offset - _HEADER + length]


def create(path: str, access: int, sharing: int, options: int) -> Any:
    """A request to open what is there; ``path`` with slashes, "" for the share's own folder."""
    from smbprotocol.open import CreateDisposition, ImpersonationLevel, SMB2CreateRequest

    request = SMB2CreateRequest()
    request["impersonation_level"] = ImpersonationLevel.Impersonation
    request["desired_access"] = access
    request["share_access"] = sharing
    request["create_disposition"] = CreateDisposition.FILE_OPEN
    request["create_options"] = options
    request["buffer_path"] = path.replace("/", "\\").encode("utf-16-le", "surrogatepass") or b"\x00\x00"
    return request


def query(file_id: bytes, size: int) -> Any:
    """A request for the next entries of an open directory, ``size`` bytes of them at most."""
    from smbprotocol.open import SMB2QueryDirectoryRequest

    request = SMB2QueryDirectoryRequest()
    request["file_information_class"] = ID_FULL_DIRECTORY
    request["file_id"] = file_id
    request["output_buffer_length"] = size
    request["buffer"] = "*".encode("utf-16-le")
    return request


def read(file_id: bytes, offset: int, size: int) -> Any:
    """A request for ``size`` bytes of an open file."""
    from smbprotocol.open import SMB2ReadRequest

    request = SMB2ReadRequest()
    request["length"] = size
    request["offset"] = offset
    request["file_id"] = file_id
    request["padding"] = b"\x50"
    return request


def close(file_id: bytes) -> Any:
    """A request to close what is open."""
    from smbprotocol.open import SMB2CloseRequest

    request = SMB2CloseRequest()
    request["file_id"] = file_id
    return request
