"""What libphdi sees of a .hdd bundle: size and content."""

from pathlib import Path

import pyphdi
from common import digest, main


def read(path):
    handle = pyphdi.handle()
    handle.open(str(Path(path) / "DiskDescriptor.xml"))
    names = [extent.filename for extent in handle.extent_descriptors]
    if any("/" in name for name in names):
        # libphdi drops the folders of a file's name and looks inside the bundle: the files are opened for it. It names
        # one file for each storage only, so this serves disks of one image.
        handle.open_extent_data_files_as_file_objects([open(Path(path) / name, "rb") for name in names])
    else:
        handle.open_extent_data_files()
    size = handle.get_media_size()

    def read_at(offset, length):
        return handle.read_buffer_at_offset(length, offset)

    return {"size": size, "sha256": digest(read_at, size)}


main(read)
