"""Where numba keeps compiled kernels; to be said before it is imported."""

import os
from pathlib import Path

import ml


def keep_compiled(data_dir: Path) -> None:
    """
    Keep kernels beside their source, where every start of every data folder finds them, or in *data_dir* if that is
    read-only. They take 12 s to compile.
    """
    if not all(os.access(folder, os.W_OK) for folder in ml.__path__):
        os.environ.setdefault("NUMBA_CACHE_DIR", str(data_dir / "numba"))
