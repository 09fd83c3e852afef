# SPDX-License-Identifier: Apache-2.0
"""What a piece of work adds to this process's resident set, as Linux counts it."""
import ctypes

STATUS = "/proc/self/status"
CLEAR = "/proc/self/clear_refs"
RESET_PEAK = "5"  # sets VmHWM to the present VmRSS


def resident_bytes(field):
    """VmRSS, what is resident now, or VmHWM, the most that was since the process began or the peak was reset."""
    with open(STATUS, encoding="ascii") as status:
        (line,) = [line for line in status if line.startswith(field + ":")]
    return 1024 * int(line.split()[1])


def give_back_freed():
    """Returns what the allocator keeps of freed memory, where that is glibc's."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


def added_bytes(work):
    """(resident before `work`, the most that it added, what it returned); the two are None where Linux does not say."""
    give_back_freed()
    try:
        before = resident_bytes("VmRSS")
        with open(CLEAR, "w", encoding="ascii") as clear:
            clear.write(RESET_PEAK)
    except OSError:
        return None, None, work()
    result = work()
    return before, max(resident_bytes("VmHWM") - before, 0), result
