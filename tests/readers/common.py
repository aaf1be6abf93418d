"""What the reader scripts share: paths in, one JSON document out, keyed by path.

A script reads each path on its command line with one parser that is not ours and prints
`{PATH: {"seen": ...} | {"error": "..."}}`. Fields are the parser's own words; judging them is the caller's.
"""

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MIB = 1 << 20
HERE = Path(__file__).parent


def main(read, workers=1):
    def answer(path):
        try:
            return {"seen": read(path)}
        except Exception as error:  # a parser's refusal is an answer, whatever its type
            return {"error": f"{type(error).__name__}: {error}"}

    paths = sys.argv[1:]
    with ThreadPoolExecutor(workers) as pool:
        document = dict(zip(paths, pool.map(answer, paths)))
    json.dump(document, sys.stdout, ensure_ascii=False)
    sys.stdout.write("\n")


def run(*args, path_first=None):
    """What a foreign program printed; it has a minute. Its refusal is an error with its own words."""
    env = dict(os.environ, LC_ALL="C.UTF-8")
    if path_first:
        env["PATH"] = f"{path_first}{os.pathsep}{env['PATH']}"
    done = subprocess.run(args, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    if done.returncode != 0:
        said = (done.stderr + done.stdout).decode(errors="replace").strip()
        raise ValueError(f"{args[0]} ended with {done.returncode}: {said}")
    return done.stdout.decode()


def sampled(size):
    """Offsets of the 1 MiB pieces that are read of a disk: all of a small one, nine of a large one."""
    pieces = -(-size // MIB)
    step = 1 if pieces <= 64 else pieces // 8
    offsets = set(range(0, pieces, step)) | {pieces - 1}
    return [piece * MIB for piece in sorted(offsets)]


def digest(read_at, size):
    """SHA-256 of the sampled pieces of a disk; `read_at(offset, length)`. `content_digest` in readers.rs is the same."""
    sha = hashlib.sha256()
    for offset in sampled(size):
        length = min(MIB, size - offset)
        data = read_at(offset, length)
        if len(data) != length:
            raise ValueError(f"{len(data)} bytes instead of {length} at {offset}")
        sha.update(data)
    return sha.hexdigest()


def tree(element):
    """An XML element as plain values; the namespace is dropped."""
    return {
        "tag": element.tag.rsplit("}", 1)[-1],
        "attributes": dict(element.attrib),
        "text": element.text or "",
        "children": [tree(child) for child in element],
    }
