"""Whether this process and its children had the machine to themselves."""

import os
import resource
import time

# More than this, in parts of all cores' time, and figures are not to be trusted.
DISTURBING = 0.03


def _busy():
    """Return the seconds that all CPUs have been busy or taken away, or None if nobody knows."""
    try:
        with open("/proc/stat") as file:
            fields = [int(field) for field in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    user, nice, system, _idle, _waiting, *interrupts_and_stolen = fields
    return (user + nice + system + sum(interrupts_and_stolen)) / os.sysconf("SC_CLK_TCK")


def _own():
    """Return the seconds of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Noise:
    """Watches what others do with the CPUs, from when it is made."""

    def __init__(self):
        self._began = time.perf_counter(), _busy(), _own()

    def tell(self):
        """Return a line about it, or None where nobody knows. All children must have ended."""
        began, busy, own = self._began
        if busy is None:
            return None
        all_time = (time.perf_counter() - began) * os.cpu_count()
        share = max((_busy() - busy) - (_own() - own), 0) / all_time
        verdict = ": **do not trust these figures**" if share > DISTURBING else ""
        return f"Other processes took {share:.1%} of all cores' time meanwhile{verdict}."
