"""What dissect.hypervisor's PVS parser sees: the disks, and the document itself."""

from common import main, tree
from dissect.hypervisor.descriptor.pvs import PVS


def read(path):
    with open(path, encoding="utf-8") as file:
        pvs = PVS(file)
    return {"disks": list(pvs.disks()), "document": tree(pvs._xml)}


main(read)
