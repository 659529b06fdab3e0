"""Memory that a process keeps once it has it, and what it gives back."""

import ctypes

# Of malloc.h: parameters of mallopt.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3


def keep_memory() -> None:
    """Have glibc keep what is freed, for a process that computes all the time.

    By default it gives large tensors back to the system and asks for them again, and each page that
    comes is cleared first: a tenth of the time and more. Other libraries are left as they are.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(MMAP_THRESHOLD, 32 << 20)  # the most that it takes
        libc.mallopt(TRIM_THRESHOLD, -1)  # never
        libc.mallopt(TOP_PAD, 64 << 20)


def release() -> None:
    """Leave to others the GPU memory that torch keeps for what this process computes next."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
