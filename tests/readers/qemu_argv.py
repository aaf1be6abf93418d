"""What QEMU itself makes of an argument vector: it is started, never lets the guest run, and is asked over QMP.

A path is a JSON file `{"argv": [...]}`. What only a host can know is added: TCG, no window, no sound, empty firmware.
"""

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

from common import main

LIMIT = 60
# What the virt board takes; the PC boards take less.
FLASH = {"qemu-system-aarch64": 64 << 20}


def firmware(argument, program, folder):
    """Puts an empty file where the installed firmware belongs."""
    if not argument.startswith("{"):
        return argument
    node = json.loads(argument)
    if node.get("node-name") in ("firmware-code", "firmware-vars"):
        path = folder / node["node-name"]
        with open(path, "wb") as file:
            file.truncate(FLASH.get(program, 1 << 20))
        node["file"]["filename"] = str(path)
    return json.dumps(node)


class Monitor:
    def __init__(self, process):
        self.process = process
        self.answer()
        self.ask("qmp_capabilities")

    def answer(self):
        for line in self.process.stdout:
            message = json.loads(line)
            if "event" not in message:
                return message
        raise ValueError("QEMU ended.")

    def ask(self, command, **arguments):
        request = json.dumps({"execute": command, "arguments": arguments})
        self.process.stdin.write(request.encode() + b"\n")
        self.process.stdin.flush()
        message = self.answer()
        if "error" in message:
            raise ValueError(f"{command}: {message['error']['desc']}")
        return message["return"]


def devices(tree):
    """HMP's `info qtree`: every device with its properties and the bus it is on."""
    found, stack = [], []
    for line in tree.splitlines():
        indent = len(line) - len(line.lstrip())
        text = line.strip()
        while stack and stack[-1][0] >= indent:
            stack.pop()
        if bus := re.fullmatch(r"bus: (.*)", text):
            stack.append((indent, {"bus": bus[1]}))
        elif device := re.fullmatch(r'dev: ([^,]+), id "(.*)"', text):
            above = [entry["bus"] for _, entry in stack if "bus" in entry]
            owners = [entry for _, entry in stack if "driver" in entry]
            owner = owners[-1] if owners else {"driver": "", "id": ""}
            this = {
                "driver": device[1], "id": device[2], "on": above[-1] if above else None,
                "owner": owner["driver"], "owner-id": owner["id"], "properties": {},
            }
            found.append(this)
            stack.append((indent, this))
        elif stack and "properties" in stack[-1][1] and (pair := re.fullmatch(r"([\w-]+) = (.*)", text)):
            stack[-1][1]["properties"][pair[1]] = pair[2].strip('"')
    return found


def chain(graph, files, node):
    """File and format of each member, head first, by the edges of QEMU's own graph of its block nodes."""
    names = {one["id"]: one["name"] for one in graph["nodes"]}
    below = {(names[edge["parent"]], edge["name"]): names[edge["child"]] for edge in graph["edges"]}
    members = []
    while node:
        file = files[below.get((node, "file"), node)]
        members.append({"file": file["file"], "format": files[node]["drv"], "read-only": files[node]["ro"]})
        node = below.get((node, "backing"))
    return members


def ask(monitor):
    def human(line):
        return monitor.ask("human-monitor-command", **{"command-line": line})

    machine = {entry["name"] for entry in monitor.ask("qom-list", path="/machine")}
    graph = monitor.ask("x-debug-query-block-graph")
    nodes = {node["node-name"]: node for node in monitor.ask("query-named-block-nodes")}
    flash = monitor.ask("qom-get", path="/machine", property="pflash0") if "pflash0" in machine else ""
    def boot_index(name):
        found = {entry["name"] for entry in monitor.ask("qom-list", path=f"/machine/peripheral/{name}")}
        if "bootindex" not in found:
            return -1
        return monitor.ask("qom-get", path=f"/machine/peripheral/{name}", property="bootindex")

    # Not every property is in the device tree.
    named = [entry["name"] for entry in monitor.ask("qom-list", path="/machine/peripheral")]
    sleep = [
        monitor.ask("qom-get", path=f"/machine/unattached/{entry['name']}", property=name)
        for entry in monitor.ask("qom-list", path="/machine/unattached")
        if entry["type"] in ("child<PIIX4_PM>", "child<ICH9-LPC>")
        for name in ("disable_s3", "disable_s4")
    ]
    return {
        "sleep-disabled": sleep,
        "boot": {name: boot_index(name) for name in named if name != "type"},
        "name": monitor.ask("query-name").get("name"),
        "uuid": monitor.ask("query-uuid")["UUID"],
        "target": monitor.ask("query-target")["arch"],
        "cpus": len(monitor.ask("query-cpus-fast")),
        "memory": monitor.ask("query-memory-size-summary")["base-memory"],
        "flash": flash,
        "chains": {node: chain(graph, nodes, node) for node in nodes},
        "chardevs": {device["label"]: device["filename"] for device in monitor.ask("query-chardev")},
        "devices": devices(human("info qtree")),
        "network": human("info network"),
        "status": monitor.ask("query-status")["status"],
    }


def open_files(timeout):
    """What QEMU, the child of `timeout`, has open: QMP does not tell the path of a character device."""
    children = Path(f"/proc/{timeout}/task/{timeout}/children").read_text().split()
    links = [link for child in children for link in Path(f"/proc/{child}/fd").iterdir()]
    return sorted({os.readlink(link) for link in links})


def unreserved(arguments):
    """Memory that is only looked at need not be there: a machine may have more of it than this host."""
    size = arguments[arguments.index("-m") + 1].removeprefix("size=")
    backend = f"memory-backend-ram,id=unreserved,size={size},reserve=off"
    return ["-object", backend, "-machine", "memory-backend=unreserved"]


def read(path):
    with open(path, encoding="utf-8") as file:
        program, *arguments = json.load(file)["argv"]
    with tempfile.TemporaryDirectory() as folder:
        arguments = [firmware(argument, program, Path(folder)) for argument in arguments]
        arguments += unreserved(arguments)
        arguments += ["-accel", "tcg", "-S", "-qmp", "stdio"]
        if "-display" not in arguments:
            arguments += ["-display", "none"]
        if any(argument.endswith("audiodev=sound") for argument in arguments):
            arguments += ["-audiodev", "none,id=sound"]
        # stderr goes to a file: a full pipe would stop QEMU.
        with tempfile.TemporaryFile() as stderr:
            process = subprocess.Popen(
                ["timeout", "--kill-after=5", str(LIMIT), program, *arguments],
                env=dict(os.environ, LC_ALL="C.UTF-8"),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
            )
            try:
                seen = ask(Monitor(process))
                return seen | {"open-files": open_files(process.pid)}
            except ValueError as error:
                stderr.seek(0)
                raise ValueError(f"{error} {stderr.read().decode(errors='replace').strip()}") from error
            finally:
                # `timeout` hands a termination on to QEMU; it could not hand on a kill.
                process.terminate()
                process.wait()


main(read, workers=2)
