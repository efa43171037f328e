"""Resolves the project and its extras for each Python and platform, without installing anything.

    python .ci/resolve.py [EXTRA...]        (default: the project alone, then each of its extras)

Only wheels count, but for packages of pure Python that have none. `uv` evaluates the markers of
requirements for the platform that is asked about; pip evaluates them for the one that it runs on.
"""

import concurrent.futures
import email
import itertools
import pathlib
import subprocess
import sys
import tempfile
import zipfile

PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin")
# libtpu needs glibc 2.31, which Debian 11 and Ubuntu 20.04 have.
NEWER = ("aot", "jax-tpu", "test", "dev")
WITHOUT_WHEELS = ("promise", "crcmod", "docopt", "hdfs", "pyjsparser")  # the first: of the project


def build(folder):
    """Builds the wheel, as its metadata are what pip reads; returns its path and its extras."""
    subprocess.run(["uv", "build", "--quiet", "--wheel", f"--out-dir={folder}"], check=True)
    [wheel] = pathlib.Path(folder).glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
    return wheel, metadata.get_all("Provides-Extra", [])


def resolve(wheel, extra, platform, python):
    """Returns a line on the outcome, and whether it is a success."""
    if extra in NEWER:
        platform = platform.replace("2_28", "2_31")
    command = ["uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "-"]
    command += [f"--python-version={python}", f"--python-platform={platform}"]
    command += ["--only-binary=:all:", *(f"--no-binary={name}" for name in WITHOUT_WHEELS)]
    wanted = f"keras-vitbert{f'[{extra}]' if extra else ''} @ {wheel.as_uri()}"
    done = subprocess.run(command, input=wanted, capture_output=True, text=True, timeout=600)
    outcome = f"{len(done.stdout.splitlines())} packages"
    if done.returncode:
        outcome = f"FAILS\n{done.stderr}"
    return f"{extra or 'the project':12} {platform:24} {python}  {outcome}", not done.returncode


def main(wanted):
    """Returns an exit status: 0 if everything resolves."""
    with tempfile.TemporaryDirectory() as folder:
        wheel, extras = build(folder)
        if unknown := set(wanted) - set(extras):
            print(f"pyproject.toml has no extra {sorted(unknown)[0]}")
            return 2
        cases = itertools.product([wheel], wanted or ["", *extras], PLATFORMS, PYTHONS)
        failed = False
        with concurrent.futures.ThreadPoolExecutor(4) as pool:  # it waits for the index
            for line, is_resolved in pool.map(lambda case: resolve(*case), cases):
                print(line, flush=True)
                failed |= not is_resolved
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
