"""What the operating system may give to this process, and no more."""

from __future__ import annotations

from contextlib import suppress


def is_memory_bounded() -> bool:
    """Whether this process may have less address space than the machine would give it."""
    try:
        import resource
    except ImportError:  # on Windows
        return False
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def bound_memory(megabytes: int | None) -> None:
    """Bound the address space of this process (RLIMIT_AS of setrlimit(2)); what asks for more gets a MemoryError.

    So that an image which was made to fill the memory takes one worker, and not the machine. Systems without
    the limit have none.
    """
    if megabytes is None:
        return
    try:
        import resource
    except ImportError:  # on Windows
        return
    wanted, (_, most) = megabytes * 2**20, resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:
        wanted = min(wanted, most)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, most))


def allow_descriptors() -> None:
    """Let this process open as many files as the system lets it (RLIMIT_NOFILE), and not only as many as is usual."""
    try:
        import resource
    except ImportError:  # on Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # macOS allows fewer than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
