"""What libvmdk sees of a VMDK chain: each member's parent as it names it, size and content."""

from pathlib import Path

import pyvmdk
from common import digest, main


def open_chain(path):
    """Opens a member and, by its own hint, its ancestors; libvmdk checks the content ids."""
    handle = pyvmdk.handle()
    handle.open(str(path))
    # libvmdk drops the folders of an extent's name and looks beside the descriptor: the files are opened for it.
    names = [extent.filename for extent in handle.extent_descriptors]
    handle.open_extent_data_files_as_file_objects([open(path.parent / name, "rb") for name in names])
    chain = [{"parent": handle.get_parent_filename(), "size": handle.get_media_size()}]
    if chain[0]["parent"]:
        # libvmdk does not follow the hint by itself. It is relative to the child's folder.
        parent, above = open_chain(path.parent / chain[0]["parent"])
        handle.set_parent(parent)
        chain += above
    return handle, chain


def read(path):
    handle, chain = open_chain(Path(path))
    size = handle.get_media_size()

    def read_at(offset, length):
        return handle.read_buffer_at_offset(length, offset)

    return {"size": size, "chain": chain, "sha256": digest(read_at, size)}


main(read)
