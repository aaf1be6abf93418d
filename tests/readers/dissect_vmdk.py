"""What dissect.hypervisor's VMDK reader sees of a chain: its depth, size and content."""

from pathlib import Path

from common import digest, main
from dissect.hypervisor.disk import vmdk
from dissect.hypervisor.disk.vmdk import VMDK


class RelativePath(type(Path())):
    """dissect 3.21 opens an extent by `with_name`, which refuses a name with a folder in it."""

    def with_name(self, name):
        return self.parent / name


def open_parent(folder, hint):
    # dissect 3.21 tries the hint's last part in the child's folder first, and so may open another file of that name.
    return VMDK(folder / hint)


vmdk.open_parent = open_parent


def level(disk):
    """The descriptor and parent of one member of the chain."""
    if disk.descriptor:
        return disk.descriptor, disk.parent
    return disk.disks[0].descriptor, disk.disks[0].parent


def read(path):
    disk = VMDK(RelativePath(path))
    chain = []
    member = disk
    while member:
        descriptor, parent = level(member)
        chain.append({
            "attributes": descriptor.attr,
            "ddb": descriptor.ddb,
            "extents": [extent.raw for extent in descriptor.extents],
            "size": member.size,
        })
        member = parent

    def read_at(offset, length):
        disk.seek(offset)
        return disk.read(length)

    return {"size": disk.size, "chain": chain, "sha256": digest(read_at, disk.size)}


main(read)
