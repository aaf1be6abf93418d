"""What dissect.hypervisor's VBox parser sees: machine, media with their parents, and the document itself."""

from common import main, tree
from dissect.hypervisor.descriptor.vbox import VBox


def read(path):
    with open(path, encoding="utf-8") as file:
        vbox = VBox(file)
    return {
        "uuid": str(vbox.uuid),
        "name": vbox.name,
        "media": {
            str(medium.uuid): {
                "location": medium.location,
                "format": medium.format,
                "type": medium.type,
                "parent": str(medium.parent.uuid) if medium.parent else None,
            }
            for medium in vbox.media.values()
        },
        # dissect 3.21 looks for controllers below <Hardware> only (settings 1.17 and later), so attachments are read
        # from the document.
        "document": tree(vbox.machine.element),
    }


main(read)
