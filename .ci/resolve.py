"""Resolves the project and its extras for each Python and platform, without installing anything.

    python .ci/resolve.py [EXTRA...]        (default: the project alone, then each of its extras)

Only wheels count, but for packages of pure Python that have none. `uv` evaluates the markers of
requirements for the platform that is asked about; pip evaluates them for the one that it runs on.
"""

import concurrent.futures
import itertools
import subprocess
import sys

import setuptools  # noqa: F401 - it brings distutils, which newer Pythons lack

PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin")
WITHOUT_WHEELS = ("promise", "crcmod", "docopt", "hdfs", "pyjsparser")  # the first: of the project


def resolve(extra, requirements, platform, python):
    """Returns a line on the outcome, and whether it is a success."""
    command = ["uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "-"]
    command += [f"--python-version={python}", f"--python-platform={platform}"]
    command += ["--only-binary=:all:", *(f"--no-binary={name}" for name in WITHOUT_WHEELS)]
    done = subprocess.run(
        command, input="\n".join(requirements), capture_output=True, text=True, timeout=600
    )
    outcome = f"{len(done.stdout.splitlines())} packages"
    if done.returncode:
        outcome = f"FAILS\n{done.stderr}"
    return f"{extra or 'the project':12} {platform:24} {python}  {outcome}", not done.returncode


def main(extras):
    """Returns an exit status: 0 if everything resolves."""
    from distutils.core import run_setup

    project = run_setup("setup.py", stop_after="init")
    if unknown := set(extras) - set(project.extras_require):
        print(f"setup.py has no extra {sorted(unknown)[0]}")
        return 2
    cases = [
        (extra, [*project.install_requires, *project.extras_require.get(extra, ())], *target)
        for extra in extras or ["", *project.extras_require]
        for target in itertools.product(PLATFORMS, PYTHONS)
    ]
    failed = False
    with concurrent.futures.ThreadPoolExecutor(4) as pool:  # it waits for the index
        for line, is_resolved in pool.map(lambda case: resolve(*case), cases):
            print(line, flush=True)
            failed |= not is_resolved
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
