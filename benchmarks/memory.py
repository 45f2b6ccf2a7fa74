"""Peak memory of a process. A separate module, so that it loads nothing else."""

import resource
from pathlib import Path


def peak_mib() -> float:
    """Return the peak memory of this process. On Linux ``getrusage`` would include the parent's memory."""
    status = Path("/proc/self/status")
    if status.exists():
        peak_line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak_line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes elsewhere
