"""What QEMU sees of a VMDK chain when it follows the hints itself: each member, and the content by a real read.

`qemu-img info` does not compare content ids; a read does.
"""

import json
import tempfile

from common import digest, main, run


def read(path):
    chain = json.loads(run("qemu-img", "info", "--output=json", "--backing-chain", "-f", "vmdk", path))
    with tempfile.NamedTemporaryFile() as raw:
        run("qemu-img", "convert", "-f", "vmdk", "-O", "raw", path, raw.name)
        size = chain[0]["virtual-size"]

        def read_at(offset, length):
            raw.seek(offset)
            return raw.read(length)

        sha256 = digest(read_at, size)
    return {
        "size": size,
        "chain": [
            {
                "file": member["filename"],
                "size": member["virtual-size"],
                "parent": member.get("backing-filename"),
                "create-type": member["format-specific"]["data"]["create-type"],
                "cid": member["format-specific"]["data"]["cid"],
                "parent-cid": member["format-specific"]["data"]["parent-cid"],
            }
            for member in chain
        ],
        "sha256": sha256,
    }


main(read, workers=2)
