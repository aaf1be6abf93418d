"""What libvirt's vmx parser makes of a .vmx: its domain XML. Stand-ins answer its driver's probe (stand-ins/README)."""

import re
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from common import HERE, main, run, tree

# Stands for / on the way through libvirt; of the private use area, so that no name has it.
SLASH = "\ue000"


def read(path):
    text = Path(path).read_text(encoding="utf-8")
    # libvirt 9.0 refuses a file with a host-only adapter, and one with a bridged adapter that names no network, as ESX
    # has it: it is given a copy with a connection type that it knows.
    text = re.sub(r'(?m)^(ethernet\d+\.connectionType = )"(hostonly|bridged)"$', r'\1"nat"', text)
    # libvirt decodes %XX in the name besides |XX, and wants no / in it; VMware does neither.
    text = re.sub(r"(?m)^displayName = .*$", lambda line: line[0].replace("%", "%25").replace("/", SLASH), text)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".vmx") as copy:
        copy.write(text)
        copy.flush()
        xml = run(
            "virsh", "--quiet", "--connect", "vmwarews:///session", "domxml-from-native", "vmware-vmx", copy.name,
            path_first=HERE / "stand-ins",
        )
    return tree(ElementTree.fromstring(xml.replace(SLASH, "/")))


main(read, workers=2)
