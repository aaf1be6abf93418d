"""What dissect.hypervisor's HDD reader sees of a .hdd bundle: images, the chain from the leaf, size and content."""

from pathlib import Path
from uuid import UUID

from common import digest, main
from dissect.hypervisor.disk.hdd import HDD

LEAF = UUID("5fbaabe3-6958-40ff-92a7-860e329aab41")


def read(path):
    hdd = HDD(Path(path))
    # dissect 3.21 ignores TopGUID, so the leaf is named.
    disk = hdd.open(LEAF)

    def read_at(offset, length):
        # dissect 3.21 joins a hole of N bytes with a cluster at file offset N. Clusters are 1 MiB, as are the
        # pieces that `digest` reads, so that no read goes over the end of a cluster.
        disk.seek(offset)
        return disk.read(length)

    return {
        "size": disk.size,
        "chain": [str(guid) for guid in hdd.descriptor.get_snapshot_chain(LEAF)],
        "storages": [
            {
                "start": storage.start,
                "end": storage.end,
                "images": {str(image.guid): {"type": image.type, "file": image.file} for image in storage.images},
            }
            for storage in hdd.descriptor.storage_data.storages
        ],
        "sha256": digest(read_at, disk.size),
    }


main(read)
