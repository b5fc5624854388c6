#!/usr/bin/env python3
"""The version is in include/ferry/version.h. Some files must repeat it; this script compares them, or writes them.

Usage: version.py check|get [ROOT]
       version.py set X.Y.Z [ROOT]   (writes version.h and the others, and the heading of CHANGELOG.md)
"""
import datetime
import pathlib
import re
import sys

HEADER = "include/ferry/version.h"
CHANGELOG = "CHANGELOG.md"
UNRELEASED = "## [Unreleased]\n"

# What stands in each file: {version} is 0.1.0, {minor} is 0.1, and {abi} is the end of the SONAME. Before 1.0 the library
# has one symbol version; later ones have one for each minor release, which the functions get when they are added.
PLACES = {
    HEADER: ["#define FERRY_VERSION_MAJOR {v[0]} ", "#define FERRY_VERSION_MINOR {v[1]} ",
             "#define FERRY_VERSION_PATCH {v[2]} ", '#define FERRY_VERSION "{version}" '],
    "README.md": ["find_package(ferry {minor} REQUIRED)", "\nVersion {minor}, ",
                  "[libferry.so.{abi}](docs/api-stability.md)"],
    "docs/install.md": ["find_package(ferry {minor} REQUIRED)", ": libferry{abi}, libferry-dev"],
    "src/ferry.map": ["FERRY_{minor} {{\n", "libferry.so.{abi}:"],
    "src/packaging/debian/control": ["Package: libferry{abi}\n", "libferry{abi} (= ${{binary:Version}})"],
    "src/packaging/debian/libferry{abi}.symbols": ["libferry.so.{abi} libferry{abi} #MINVER#\n",
                                                   "(symver)FERRY_{minor} {minor}.0\n"],
    "src/packaging/debian/libferry{abi}.install": [],
    "src/packaging/meson/ferry.wrap": ["directory = ferry-{version}\n"],
    "src/packaging/rpm/ferry.spec": ["Version: {version}\n", "%global soversion {abi}\n"],
    "src/packaging/vcpkg/vcpkg.json": ['"version": "{version}"'],
}


def names(version):
    """The values of the names that PLACES has in braces."""
    numbers = [int(number) for number in version.split(".")]
    minor = f"{numbers[0]}.{numbers[1]}"
    return {"v": numbers, "version": version, "minor": minor, "abi": minor if numbers[0] == 0 else str(numbers[0])}


def get(root):
    return re.search(r'^#define FERRY_VERSION "(.+)"', (root / HEADER).read_text(encoding="utf-8"), re.M).group(1)


def check(root):
    """The number of places that do not have the version of the header."""
    values = names(get(root))
    wrong = 0
    for name, texts in PLACES.items():
        file = root / name.format(**values)
        content = file.read_text(encoding="utf-8") if file.exists() else None
        if content is None:
            print(f"{file.relative_to(root)} does not exist")
        for text in texts if content is not None else []:
            wanted = text.format(**values)
            if wanted not in content:
                print(f"{file.relative_to(root)} has no '{wanted.strip()}'")
                wrong += 1
        wrong += content is None
    return wrong


def set_version(root, version):
    old, new = names(get(root)), names(version)
    for name, texts in PLACES.items():
        file, renamed = root / name.format(**old), root / name.format(**new)
        content = file.read_text(encoding="utf-8")
        for text in texts:
            content = content.replace(text.format(**old), text.format(**new))
        file.rename(renamed)
        renamed.write_text(content, encoding="utf-8")
    changes = root / CHANGELOG
    content = changes.read_text(encoding="utf-8")
    today = datetime.datetime.now(datetime.timezone.utc).date()
    content = content.replace(UNRELEASED, f"{UNRELEASED}\n## [{version}] - {today}\n", 1)
    changes.write_text(content, encoding="utf-8")


def main():
    arguments = sys.argv[1:]
    if not arguments or arguments[0] not in ("check", "get", "set") or \
            (arguments[0] == "set" and not re.fullmatch(r"\d+\.\d+\.\d+", arguments[1] if arguments[1:] else "")):
        sys.exit(__doc__)
    rest = arguments[2:] if arguments[0] == "set" else arguments[1:]
    root = pathlib.Path(rest[0] if rest else pathlib.Path(__file__).parent.parent.parent).resolve()
    if arguments[0] == "get":
        print(get(root))
        return
    if arguments[0] == "set":
        set_version(root, arguments[1])
    if check(root) > 0:
        sys.exit(1)
    print(f"the version is {get(root)} everywhere")


if __name__ == "__main__":
    main()
