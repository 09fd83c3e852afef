# SPDX-License-Identifier: Apache-2.0
"""PyTorch for Python out of the wheel that isobar's LibTorch comes from, so that both are the same build.

The wheel's Python module is linked with NVIDIA's libraries, gigabytes of which a run on the CPU calls nothing.
`scripts/setup --baselines` puts libraries of the same names, without functions, beside the few Python packages that
torch imports; they are loaded first, and functions are looked up when they are called.
"""
import ctypes
import os
import sys
from pathlib import Path

DEPS = Path(__file__).resolve().parents[2] / ".deps"


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


class NoTorch(Exception):
    """Why there is no PyTorch, in one line."""


def keep_freed_memory():
    """The same malloc as that of isobar's programs (isobar/launch/memory.hpp), where it is glibc's."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    said = "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "") or \
        any(os.environ.get(f"MALLOC_{what}_THRESHOLD_") for what in ("MMAP", "TRIM"))
    if mallopt and not said:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, -1)


def prepare():
    """Makes `import torch` and `import numpy` work in this process, from .deps where scripts/setup has filled it."""
    keep_freed_memory()
    packages = DEPS / "python"
    if packages.exists():
        for library in sorted((packages / "stand-ins").glob("*.so*")):
            ctypes.CDLL(str(library))
        sys.path[:0] = [str(DEPS / "libtorch"), str(packages)]
        sys.setdlopenflags(os.RTLD_LAZY)
    try:
        import numpy  # noqa: F401
        import torch  # noqa: F401
    except (ImportError, OSError) as error:
        raise NoTorch(f"Python {sys.version.split()[0]} imports no torch ({error}); run scripts/setup --baselines, "
                      "which serves Python 3.11") from None
