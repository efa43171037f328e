"""Breaks lines that tests must protect, one at a time, and runs the quick tests that must see it.

    python -m tests.mutations [NAME ...]

The lines are those of mutations.toml, all of them by default. Each is broken in a copy of the
tree, as it is or would be committed. Exit status 1 if a mutation is not seen or has lost its line.
"""

import pathlib
import subprocess
import sys
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).parents[1]


def main(names):
    mutations = tomllib.loads((ROOT / "tests" / "mutations.toml").read_text())
    bad = []
    with tempfile.TemporaryDirectory() as copy:
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        files = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True).stdout
        into = ["xargs", "-0", "cp", "--parents", "-t", copy]
        subprocess.run(into, cwd=ROOT, check=True, input=files)
        for name in names or mutations:
            seen = is_seen(pathlib.Path(copy), **mutations[name])
            print(f"{name}  {seen or 'NOT SEEN':<90}  {mutations[name]['breaks']}", flush=True)
            bad += [] if seen else [name]
    print(f"{len(bad)} not seen: {' '.join(bad)}" if bad else "all seen")
    return bool(bad)


def is_seen(copy, breaks, file, line, by, tests):
    """The first test that fails with a line broken, or an empty str."""
    path = copy / file
    before = path.read_text()
    if before.count(line) != 1:
        print(f"{file} holds this {before.count(line)} times: {line}", file=sys.stderr)
        return ""
    path.write_text(before.replace(line, by))
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-x", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run([*command, *tests], cwd=copy, capture_output=True, text=True)
    finally:
        path.write_text(before)
    failed = [row for row in done.stdout.splitlines() if row.startswith("FAILED ")]
    return failed[0].split()[1].removeprefix("tests/") if done.returncode == 1 and failed else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
