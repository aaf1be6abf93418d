"""What libvirt's vmx parser makes of a .vmx: its domain XML. Stand-ins answer its driver's probe (stand-ins/README)."""

from xml.etree import ElementTree

from common import HERE, main, run, tree


def read(path):
    xml = run(
        "virsh", "--quiet", "--connect", "vmwarews:///session", "domxml-from-native", "vmware-vmx", path,
        path_first=HERE / "stand-ins",
    )
    return tree(ElementTree.fromstring(xml))


main(read, workers=2)
