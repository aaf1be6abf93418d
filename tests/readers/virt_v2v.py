"""What virt-v2v sees of a .vmx: its list of the source; it opens every disk with qemu-nbd."""

import re

from common import main, run

SECTIONS = {"disks": "disks", "removable media": "removable", "NICs": "nics"}


def read(path):
    seen = {"disks": [], "removable": [], "nics": []}
    section = None
    for line in run("virt-v2v", "-i", "vmx", path, "-o", "null", "--print-source").splitlines():
        if field := re.fullmatch(r" *([A-Za-z ]+): ?(.*)", line):
            name, value = field[1], field[2].strip()
            section = SECTIONS.get(name)
            if section is None:
                seen[name] = value
        elif section and line.strip():
            seen[section].append(line.strip())
    return seen


main(read, workers=2)
