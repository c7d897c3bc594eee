"""What a second sandbox around ours costs, and what a run in Gradescope's container takes. python tests/bench/bench_backends.py

The container is imitated: no namespaces (tests/attacks/hosts.py), and, where they can be made, control groups of 768 MB and half
a processor.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from attacks import target  # noqa: E402

from autograder import course as courses  # noqa: E402
from autograder import reference  # noqa: E402
from autograder.gradescope.package import package  # noqa: E402
from autograder.grading.oracle import Oracle  # noqa: E402
from autograder.sandbox import backends, open_sandbox  # noqa: E402

GROUPS = [Path("/sys/fs/cgroup") / kind / f"climb-bench-{os.getpid()}" for kind in ("memory", "cpu")]
LIMITED = """
echo $((768 << 20)) > {0}/memory.limit_in_bytes; echo 100000 > {1}/cpu.cfs_period_us; echo 50000 > {1}/cpu.cfs_quota_us
echo $$ > {0}/cgroup.procs; echo $$ > {1}/cgroup.procs; exec "$@"
"""


def checks(backend: str | None, times: int = 30) -> float:
    """Median milliseconds of one check of lesson 3."""
    check, source = target.checks()[target.EXERCISE], reference.source(target.MODULE)
    with open_sandbox([target.MODULE], "full", backend=backend) as sandbox:
        oracle, taken = Oracle(target.MODULE, target.SEED), []
        for _ in range(times + 1):
            began = time.perf_counter()
            assert target.put(check, source, oracle, sandbox).status == "passed"
            taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken[1:])


def gradescope() -> dict:
    """Lessons 1 to 3, the solutions handed in: seconds and peak memory of a run in the imitated container."""
    course = courses.load(ROOT)
    lessons = [lesson for lesson in course.lessons if lesson.number <= 3]
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "autograder"
        package(course, lessons, Path(place) / "climb.zip", 0x5EC2E7_5EED)
        for name in ("source", "submission", "results"):
            (root / name).mkdir(parents=True)
        zipfile.ZipFile(Path(place) / "climb.zip").extractall(root / "source")
        for lesson in lessons:
            (root / "submission" / Path(lesson.file).name).write_text(reference.source(lesson.module))
        limited = ["bash", "-c", LIMITED.format(*GROUPS), "limited"] if made_groups() else []
        host = [sys.executable, str(ROOT / "tests/attacks/hosts.py"), "--without", "namespaces"]
        environment = os.environ | {"CLIMB_AUTOGRADER": str(root), "CLIMB_PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
        began = time.perf_counter()
        words = [*limited, *host, "bash", str(root / "source/run_autograder")]
        subprocess.run(words, env=environment, check=True, stdout=subprocess.DEVNULL)
        taken = time.perf_counter() - began
        made = json.loads((root / "results/results.json").read_text())
        peak = int((GROUPS[0] / "memory.max_usage_in_bytes").read_text()) >> 20 if limited else None
        size = (Path(place) / "climb.zip").stat().st_size / 1e6
    for group in GROUPS if limited else ():
        time.sleep(0.3)
        group.rmdir()
    points = sum(test["score"] for test in made["tests"])
    return {"seconds": round(taken, 1), "peak MB": peak, "points": points, "zip MB": round(size, 2)}


def made_groups() -> bool:
    try:
        for group in GROUPS:
            group.mkdir()
        return True
    except OSError:
        return False


if __name__ == "__main__":
    for name in (None, "bwrap"):
        problem = backends.missing(name) if name else ""
        print(f"a check of lesson 3, {name or 'our sandbox alone'}: {problem or f'{checks(name):.1f} ms'}")
    print("Gradescope, lessons 1 to 3, half a processor:", gradescope())
