"""What QEMU sees of a .hdd bundle of one storage: `check` of each expanding image, and the chain's content.

QEMU has no links between .hds files, so the order comes from DiskDescriptor.xml, read here with Python's own parser.
"""

import json
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from common import digest, main, run

LEAF = "{5fbaabe3-6958-40ff-92a7-860e329aab41}"


def members(bundle):
    """Type and file of each member, leaf first."""
    document = ElementTree.parse(bundle / "DiskDescriptor.xml").getroot()
    storages = document.findall("StorageData/Storage")
    if len(storages) != 1:
        raise ValueError(f"{len(storages)} storages: QEMU does not read split bundles")
    images = {
        image.findtext("GUID").lower(): (image.findtext("Type"), bundle / image.findtext("File"))
        for image in storages[0].findall("Image")
    }
    parents = {
        shot.findtext("GUID").lower(): shot.findtext("ParentGUID").lower()
        for shot in document.findall("Snapshots/Shot")
    }
    guid, chain = LEAF, []
    while guid in images:
        chain.append(images.pop(guid))
        guid = parents[guid]
    return chain


def node(chain):
    (kind, path), *parents = chain
    driver = "raw" if kind == "Plain" else "parallels"
    this = {"driver": driver, "file": {"driver": "file", "filename": str(path.resolve())}}
    if parents:
        this["backing"] = node(parents)
    return this


def read(path):
    chain = members(Path(path))
    for kind, file in chain:
        if kind == "Compressed":
            run("qemu-img", "check", "-f", "parallels", str(file))
    source = "json:" + json.dumps(node(chain))
    # `info` opens an image without its backing and refuses one that is given.
    leaf = "json:" + json.dumps(node(chain[:1]))
    size = json.loads(run("qemu-img", "info", "--output=json", leaf))["virtual-size"]
    with tempfile.NamedTemporaryFile() as raw:
        run("qemu-img", "convert", "-O", "raw", source, raw.name)

        def read_at(offset, length):
            raw.seek(offset)
            return raw.read(length)

        sha256 = digest(read_at, size)
    return {"size": size, "members": [[kind, str(file)] for kind, file in chain], "sha256": sha256}


main(read, workers=2)
