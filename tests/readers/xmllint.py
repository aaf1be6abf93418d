"""Whether libxml2 takes a file as well-formed XML."""

from common import main, run


def read(path):
    return run("xmllint", "--noout", "--nonet", path)


main(read)
