"""JupyterHub for a course: each student gets JupyterLab and the labs, and the kernel is that of this project.

The hub has an environment of its own, `HUB`; how to make it stands in `book/teaching.md`.
"""

import os
import shutil
from pathlib import Path

LABS = Path(os.environ.get("AIECOF_LABS", "/srv/aiecof/_build/labs/zip"))  # what `make labs` made

c = get_config()  # noqa: F821 (JupyterHub defines it)
c.JupyterHub.bind_url = os.environ.get("HUB_URL", "http://:8000")
c.Authenticator.allow_all = True  # everybody who can log in to this machine; else list them in allowed_users
c.Spawner.default_url = "/lab"
c.Spawner.environment = {"OMP_NUM_THREADS": "1"}


def hand_out(spawner) -> None:
    """Unpack the labs that a student does not have yet; what is there stays as it is."""
    home = Path(spawner.notebook_dir or f"~{spawner.user.name}").expanduser()
    for archive in sorted(LABS.glob("*.zip")):
        if not (home / archive.stem).exists():
            shutil.unpack_archive(archive, home)
            for path in (home / archive.stem, *(home / archive.stem).rglob("*")):
                shutil.chown(path, spawner.user.name)


c.Spawner.pre_spawn_hook = hand_out
