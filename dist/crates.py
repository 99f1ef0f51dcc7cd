"""What `cargo metadata` says of the crates that are built: asks no network beyond what cargo needs, builds nothing.

For dist/notices, which names them. As a program it prints the directories that hold the crates' sources, a line each:
`python3 dist/crates.py TRIPLE...`; dist/cross keeps those paths out of what it builds.
"""

import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def metadata(platform):
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", platform]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT).stdout)


def is_macro(package):
    return any("proc-macro" in target["kind"] for target in package["targets"])


def closure(data, shipped):
    """The packages that are built; with `shipped`, those whose code ends up in the binary."""
    packages = {package["id"]: package for package in data["packages"]}
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    found, left = {}, [data["resolve"]["root"]]
    while left:
        one = left.pop()
        # A macro runs in the compiler, and so does what it uses.
        if one in found or shipped and is_macro(packages[one]):
            continue
        found[one] = packages[one]
        for dep in nodes[one]["deps"]:
            kinds = {kind["kind"] for kind in dep["dep_kinds"]}
            if None in kinds or not shipped:
                left.append(dep["pkg"])
    return list(found.values())


def directory(package):
    return os.path.dirname(package["manifest_path"])


def main():
    packages = [package for platform in sys.argv[1:] for package in closure(metadata(platform), shipped=False)]
    for path in sorted({os.path.dirname(directory(package)) for package in packages if package["source"] is not None}):
        print(path)


if __name__ == "__main__":
    main()
