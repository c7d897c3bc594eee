"""How long a class takes: `climb grade` of generated classes of growing size, lessons 1 to 3, every expected score checked.

    python tests/bench/bench_class.py 10 100           # RESULTS.md keeps the figures with date and machine
    python tests/bench/bench_class.py 1000 --kill      # killed twice in the middle, then graded once more: identical grades
    python tests/bench/bench_class.py 1000 --kill --lessons 3     # the same in a third of the time
    python tests/bench/bench_class.py 100 --executor dask

The class is that of class_generator.py: 40% right, 25% lazy, 20% wrong, 8% broken, 7% hostile (some of whom never end).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

from class_generator import compared, generate  # noqa: E402

SEED = "987654321987654321\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sizes", type=int, nargs="+", help="numbers of students")
    parser.add_argument("--kill", action="store_true", help="kill the first run twice, and grade the class once more to compare")
    parser.add_argument("--executor", default="local", help="local or dask")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="submissions at a time")
    parser.add_argument("--lessons", default="1-3", help="a lesson, or the first and the last of several: 3, 1-3")
    parser.add_argument("--pages", action="store_true", help="write the pages too")
    chosen = parser.parse_args()
    print(f"{'students':>9}{'seconds':>10}{'each, ms':>10}{'CPU, ms':>10}{'again, s':>10}{'wrong':>7}   kills, checks run")
    for size in chosen.sizes:
        with tempfile.TemporaryDirectory() as folder:
            one(Path(folder), size, chosen)


def one(place: Path, size: int, chosen) -> None:
    first, _, last = chosen.lessons.partition("-")
    made = generate(place / "class", size, seed=size, lessons=tuple(range(int(first), int(last or first) + 1)))
    (place / "seed").write_text(SEED)
    started, kills, used = time.perf_counter(), 0, processor()
    if chosen.kill:
        for share in (0.3, 0.6):
            kills += killed_at(place, "out", int(share * size), chosen)
    grade(place, "out", chosen)
    seconds, used = time.perf_counter() - started, processor() - used
    wrong = compared(made, results(place / "out"))
    started = time.perf_counter()
    grade(place, "out", chosen)
    again = time.perf_counter() - started
    entries = map(json.loads, (place / "out/journal.jsonl").read_text().splitlines())
    lines = [(entry["submission"], entry["key"]) for entry in entries]
    repeated = len(lines) - len(set(lines))
    figures = f"{size:>9}{seconds:>10.1f}{1000 * seconds / size:>10.0f}{1000 * used / size:>10.0f}{again:>10.1f}{len(wrong):>7}"
    edited = len(lines) - len(made) - repeated
    told = f", {edited} again because somebody edited the course meanwhile" if edited else ""
    print(f"{figures}   {kills} kills, {repeated} graded twice{told}", flush=True)
    for line in wrong[:20]:
        print("   ", line)
    if chosen.kill:
        grade(place, "second", chosen)
        same = grades(place / "out") == grades(place / "second")
        print(f"    once more, in another folder: {'identical grades' if same else 'DIFFERENT GRADES'}", flush=True)


def processor() -> float:
    """Seconds of computing by all processes that were waited for: what a busy machine does not stretch much."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def command(place: Path, out: str, chosen) -> list[str]:
    words = [sys.executable, "-m", "autograder.cli", "grade", place / "class", "--out", place / out, "--lessons", chosen.lessons]
    words += ["--seed-file", place / "seed", "--jobs", chosen.jobs, "--executor", chosen.executor]
    return [str(word) for word in words] + ([] if chosen.pages else ["--no-pages"])


def grade(place: Path, out: str, chosen) -> None:
    done = subprocess.run(command(place, out, chosen), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"climb grade ended with {done.returncode}: {done.stderr[-800:]}")


def killed_at(place: Path, out: str, count: int, chosen) -> int:
    """Kills a run when so many results are on disk; 1 if it was still running."""
    with subprocess.Popen(command(place, out, chosen), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and len(list((place / out).glob("*/result.json"))) < count:
            time.sleep(0.2)
        if process.poll() is not None:
            return 0
        process.send_signal(signal.SIGKILL)
        return 1


def results(out: Path) -> dict[str, dict]:
    return {path.parent.name: json.loads(path.read_text()) for path in out.glob("*/result.json")}


def grades(out: Path) -> dict[str, list]:
    """Points, statuses and named mistakes of everybody."""
    keys = ("id", "score", "status", "misconception")
    return {name: [[row[key] for key in keys] for row in result["exercises"]] for name, result in results(out).items()}


if __name__ == "__main__":
    main()
