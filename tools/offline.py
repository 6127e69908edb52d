"""Install Andon where there is no network: pack on a computer that has one, carry the folder over, install there.

    python tools/offline.py pack FOLDER --extras line,modbus    wheels of Andon and of all it needs, with their hashes
    python FOLDER/offline.py install FOLDER VENV                check the hashes, make an environment, install from there
    python tools/offline.py prove FOLDER                        the same where no network can be reached, then run it (Linux)

Wheels are for one kind of computer: pack on one with the same operating system, processor and Python version. Without
extras it is the bare runtime: no PyTorch, about 130 MB. Needs nothing but Python and pip.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

SUMS, EXTRAS = "SHA256SUMS", "EXTRAS"
NOBODY_THERE = """
import socket, sys
for place in (("127.0.0.1", 9), ("192.0.2.1", 443)):
    unreachable = False
    try:
        socket.create_connection(place, 2)
    except OSError as error:
        unreachable = error.errno in (101, 99)  # no network, no address: not merely refused
    if not unreachable:
        sys.exit(f"{place} can be reached: this would prove nothing")
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("folder", type=Path)
    packing.add_argument(
        "--extras", default="", help="such as line,opcua,modbus,camera,nuisance,serve,app,report,fit"
    )
    installing = commands.add_parser("install")
    installing.add_argument("folder", type=Path)
    installing.add_argument("venv", type=Path)
    proving = commands.add_parser("prove")
    proving.add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.command == "pack":
        pack(options.folder, options.extras)
    elif options.command == "install":
        install(options.folder, options.venv)
    else:
        prove(options.folder)
    return 0


def pack(folder: Path, extras: str) -> None:
    """Fill ``folder`` with wheels, their hashes, and this program."""
    root = Path(__file__).resolve().parents[1]
    if folder.exists() and any(folder.iterdir()):
        sys.exit(
            f"{folder} is not empty. Give a new folder: what lies there already would be installed, too."
        )
    folder.mkdir(parents=True, exist_ok=True)
    pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(root))
    pip(
        "download",
        "--only-binary=:all:",
        "--dest",
        str(folder),
        "--constraint",
        str(root / "constraints.txt"),
        wheel_of(folder, extras),
    )
    shutil.copy(__file__, folder / "offline.py")
    (folder / EXTRAS).write_text(extras)
    (folder / SUMS).write_text(
        "".join(f"{digest_of(path)}  {path.name}\n" for path in sorted(folder.glob("*.whl")))
    )
    wheels = list(folder.glob("*.whl"))
    size = sum(path.stat().st_size for path in wheels) / 1e6
    print(
        f"{len(wheels)} wheels, {size:.0f} MB, in {folder}. There: python3 {folder.name}/offline.py install {folder.name} andon-venv"
    )


def install(folder: Path, place: Path) -> None:
    """Make an environment at ``place`` from the wheels alone, after their hashes are checked."""
    check(folder)
    venv.create(place, with_pip=True, clear=True)
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = wheel_of(folder, (folder / EXTRAS).read_text())
    # --isolated: neither the user's settings nor the environment's name another place to look at
    pip("install", "--isolated", "--no-index", "--find-links", str(folder), wanted, python=str(python))
    print(f"installed: {place}/bin/andon")


def prove(folder: Path) -> None:
    """Install in a network name space of its own, where not even this computer can be reached, and run doctor there."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch, "venv")
        steps = [
            f"{sys.executable} -c {shlex.quote(NOBODY_THERE)}",
            f"{sys.executable} {folder.resolve() / 'offline.py'} install {folder.resolve()} {place}",
            f"cd {scratch}",  # away from the source tree
            f"{place}/bin/python -m pip check",
            f"{place}/bin/andon --version",
            f"{place}/bin/andon doctor --seconds 0.2",
        ]
        inside = " && ".join(steps)
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))
        }
        done = subprocess.run(["unshare", "--map-root-user", "--net", "bash", "-c", inside], env=environment)
    if done.returncode:
        sys.exit(f"not proven: ended with status {done.returncode}")
    print("proven: installed and run where no network can be reached")


def check(folder: Path) -> None:
    """End where a wheel is damaged, missing, or not of the pack."""
    sums = folder / SUMS
    if not sums.is_file():
        sys.exit(f"{folder} holds no {SUMS}: it is not what `offline.py pack` makes, or was not copied whole")
    wanted = {name: digest for digest, name in (line.split() for line in sums.read_text().splitlines())}
    there = {path.name for path in folder.glob("*.whl")}
    bad = [name for name, digest in wanted.items() if name not in there or digest_of(folder / name) != digest]
    strange = sorted(there - wanted.keys())
    if bad or strange:
        sys.exit(
            f"{folder} is not as it was packed: damaged or missing {bad or 'none'}, not of it {strange or 'none'}. Copy it again."
        )


def wheel_of(folder: Path, extras: str) -> str:
    """Andon's own wheel in ``folder`` as pip takes it, with ``extras``."""
    found = sorted(folder.glob("andon-*.whl"))
    if len(found) != 1:
        sys.exit(f"expected one wheel of Andon in {folder}, found {len(found)}")
    return f"{found[0].resolve()}[{extras}]" if extras else str(found[0].resolve())


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pip(*arguments: str, python: str = sys.executable) -> None:
    """Run pip, or end."""
    done = subprocess.run(
        [python, "-m", "pip", arguments[0], "--quiet", "--disable-pip-version-check", *arguments[1:]]
    )
    if done.returncode:
        sys.exit(f"pip {arguments[0]} ended with status {done.returncode}")


if __name__ == "__main__":
    sys.exit(main())
