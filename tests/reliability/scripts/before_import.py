"""What is decided before the import: CPUs and quotas. Importing and using changes no setting.

Arguments: "affinity", or the folder of a control group that this process is to join.
"""

import os
import sys
from pathlib import Path

if sys.argv[1] == "affinity":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
else:
    Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))

from settings import assert_same, settings

before = settings()
import fastnn  # noqa: E402

print(fastnn.get_num_threads())
if "use" in sys.argv:
    from work import fit, use_shared

    fit(0)
    use_shared()
assert_same(before)
