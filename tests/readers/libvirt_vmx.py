"""What libvirt's vmx parser makes of a .vmx: its domain XML. Stand-ins answer its driver's probe (stand-ins/README)."""

import re
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from common import HERE, main, run, tree


def read(path):
    text = Path(path).read_text(encoding="utf-8")
    # libvirt 9.0 refuses a file with a host-only adapter, and one with a bridged adapter that names no network, as ESX
    # has it: it is given a copy with a connection type that it knows.
    text = re.sub(r'(?m)^(ethernet\d+\.connectionType = )"(hostonly|bridged)"$', r'\1"nat"', text)
    # libvirt decodes %XX in the name besides |XX; VMware does not.
    text = re.sub(r"(?m)^displayName = .*$", lambda line: line[0].replace("%", "%25"), text)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".vmx") as copy:
        copy.write(text)
        copy.flush()
        xml = run(
            "virsh", "--quiet", "--connect", "vmwarews:///session", "domxml-from-native", "vmware-vmx", copy.name,
            path_first=HERE / "stand-ins",
        )
    return tree(ElementTree.fromstring(xml))


main(read, workers=2)
