"""What ploop sees of a .hdd bundle of one storage: size and content, once it has merged all its images into one.

ploop is by the format's owners. Its merge needs no kernel module; it changes files, so it works on a copy. What is left
is one expanding image, which QEMU reads.
"""

import shutil
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from common import digest, main, run

# Where ploop is, and not every PATH leads.
SBIN = "/usr/sbin"


def images(bundle):
    """The files that the descriptor names."""
    document = ElementTree.parse(bundle / "DiskDescriptor.xml").getroot()
    return [Path(image.findtext("File")) for image in document.iter("Image")]


def read(path):
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "copy.hdd"
        shutil.copytree(path, bundle)
        members = len(images(bundle))
        run("ploop", "check", "-F", "-r", str(bundle / images(bundle)[0]), path_first=SBIN)
        if members > 1:
            run("ploop", "snapshot-merge", "-A", str(bundle / "DiskDescriptor.xml"), path_first=SBIN)
        (merged,) = images(bundle)
        # ploop writes absolute names; a relative one lies in the bundle.
        source = str(bundle / merged)
        raw = str(bundle / "merged.raw")
        run("qemu-img", "convert", "-f", "parallels", "-O", "raw", source, raw)
        size = Path(raw).stat().st_size
        with open(raw, "rb") as content:

            def read_at(offset, length):
                content.seek(offset)
                return content.read(length)

            sha256 = digest(read_at, size)
    return {"size": size, "members": members, "sha256": sha256}


main(read)
