"""Keeps libraries of the tests from making themselves more important than what they test."""

from __future__ import annotations

import ctypes
import sys

_CAP_SYS_NICE = 23
_VERSION_3 = 0x20080522


def give_up_real_time() -> None:
    """Where the tests run as root, SVT-AV1 makes the thread that opens an encoder a real-time one of the highest
    priority, and all that it starts later: on two cores everything else stands still for seconds. Without the
    capability it goes on as it is. For the calling thread, and all threads that it begins from then on.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: capabilities 0 to 31, then the same for 32 on
    if libc.capget(header, sets) != 0:
        return
    for n in range(3):
        sets[n] &= ~(1 << _CAP_SYS_NICE)
    libc.capset(header, sets)
