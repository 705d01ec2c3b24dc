"""A file system of its own for what a benchmark's servers write: ext4 as mkfs makes it, in a file, new each time. So no
step finds what another one, or the machine's other work, has left: ext4 without a journal, say, searches long for an
inode after many files were removed."""

import os
import subprocess
import tempfile

GIGABYTES = 24     # some hundred thousand messages of 8 KiB with their inodes, several times
FOLDER = "SALLYPORT_TEST_FOLDER"    # where test/fake/server.py puts its folders


class Disk:
    """In use while it is entered. Where none can be made, the servers write where they always do."""

    def __init__(self, image):
        self.image, self.place, self.text = image, None, "/tmp"

    def __enter__(self):
        place = tempfile.mkdtemp(prefix="sp-disk-", dir="/tmp")
        try:
            with open(self.image, "wb") as f:
                os.posix_fallocate(f.fileno(), 0, GIGABYTES << 30)
            subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
                            self.image], check=True)
            subprocess.run(["mount", "-o", "loop", self.image, place], check=True)
        except (OSError, subprocess.CalledProcessError) as e:
            print(f"no file system of its own, /tmp in its place: {e}", flush=True)
            self._remove(place)
            return self
        self.place, self.text = place, "ext4, new"
        os.environ[FOLDER] = place
        return self

    def __exit__(self, *_):
        if self.place:
            del os.environ[FOLDER]
            # What a killed benchmark left may still be there: then the place goes when that has gone.
            if subprocess.run(["umount", self.place], check=False).returncode:
                subprocess.run(["umount", "--lazy", self.place], check=True)
            self._remove(self.place)
            self.place = None

    def _remove(self, place):
        os.rmdir(place)
        if os.path.exists(self.image):
            os.unlink(self.image)
