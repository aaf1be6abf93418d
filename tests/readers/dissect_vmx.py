"""What dissect.hypervisor's VMX parser sees: every key (lower-case) and the disks."""

import re

from common import main
from dissect.hypervisor.descriptor.vmx import VMX


def unescape(value):
    # dissect 3.21 leaves |XX as it is; the escape is of bytes.
    data = re.sub(rb"\|([0-9A-Fa-f]{2})", lambda m: bytes([int(m[1], 16)]), value.encode())
    return data.decode()


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        text = file.read()
    keys = [line.partition("=")[0].strip().lower() for line in text.split("\n") if "=" in line]
    vmx = VMX.parse(text)
    return {
        "attributes": {key: unescape(value) for key, value in vmx.attr.items()},
        "disks": [unescape(disk) for disk in vmx.disks()],
        # dissect keeps the last of a key that is there twice; VMware refuses such a file.
        "repeated": sorted({key for key in keys if keys.count(key) > 1}),
    }


main(read)
