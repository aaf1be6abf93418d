"""What libphdi sees of a .hdd bundle: size and content."""

from pathlib import Path

import pyphdi
from common import digest, main


def read(path):
    handle = pyphdi.handle()
    handle.open(str(Path(path) / "DiskDescriptor.xml"))
    handle.open_extent_data_files()
    size = handle.get_media_size()

    def read_at(offset, length):
        return handle.read_buffer_at_offset(length, offset)

    return {"size": size, "sha256": digest(read_at, size)}


main(read)
