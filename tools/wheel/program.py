"""Puts the archive of `./dev pack` into the wheel: its folders below PREFIX/libexec/flagscale, a script into PREFIX/bin.

FLAGSCALE_ARCHIVE names an archive that is there; without it the program is built, which takes a quarter of an hour the
first time (`pip install -v .` shows how far it is).
"""
import os
import pathlib
import re
import subprocess
import tarfile
import tempfile

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


def glibc_needed(folder):
    """The newest glibc, 2.N, whose symbols a file asks for."""
    files = [file for part in ("bin", "lib") for file in (folder / part).iterdir()]
    return max(int(minor) for file in files for minor in re.findall(rb"GLIBC_2\.(\d+)\0", file.read_bytes()))


class Program(BuildHookInterface):
    def initialize(self, version, build_data):
        if version != "standard":
            raise RuntimeError("pip install -e . has nothing to edit in place: build with ./dev build, or pip install .")
        root = pathlib.Path(self.root)
        self.scratch = tempfile.TemporaryDirectory()
        with tarfile.open(self.archive(root)) as archive:
            archive.extractall(self.scratch.name)
        (folder,) = pathlib.Path(self.scratch.name).iterdir()
        for file in folder.rglob("*"):
            if file.is_file():
                build_data["shared_data"][str(file)] = f"libexec/flagscale/{file.relative_to(folder)}"
        build_data["shared_scripts"][str(root / "tools/wheel/flagscale")] = "flagscale"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-manylinux_2_{glibc_needed(folder)}_x86_64"

    def archive(self, root):
        given = os.environ.get("FLAGSCALE_ARCHIVE")
        if given:
            return given
        here = os.confstr("CS_GNU_LIBC_VERSION").split()[-1]  # newer than a release's perhaps; the wheel's tag tells it
        subprocess.run([root / "dev", "pack"], cwd=root, check=True, stdin=subprocess.DEVNULL,
                       env={"FLAGSCALE_PACK_GLIBC": here, **os.environ})
        version = self.metadata.version
        return root / "build" / f"flagscale-{version}-x86_64.tar.gz"

    def finalize(self, version, build_data, artifact_path):
        self.scratch.cleanup()
