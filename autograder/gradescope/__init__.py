"""Gradescope: an autograder zip, and what runs in it.

`package` writes the zip here; `inside` is what Gradescope's container runs for each submission; `results` turns our result into
its results.json. The zip holds the grader, the solutions of the lessons (and of earlier ones, beside which they are graded), and
the cases, truths and known mistakes under one secret seed as data: grading there neither draws nor computes them.

What Gradescope's documentation says of its containers (pages "Autograder Specifications" and "Troubleshooting"): an Ubuntu image
in Docker; setup.sh runs once, as root; the zip lies unpacked in /autograder/source and the submission in /autograder/submission;
run_autograder is to write /autograder/results/results.json. By default a run has 768 MB, half a processor and 10 minutes, then
it is ended and gives no points; all three can be raised for an assignment.

Which sandbox is reached there: a container with Docker's defaults is root without the right to make namespaces. What remains is a
user of its own for each check, no_new_privs, no capabilities, seccomp (no sockets, no processes, no signals to others), resource
limits, and Landlock where the host's kernel has it. With Landlock that is level `full`. Without it the level is called `process`,
and what keeps a child from the truths is that it runs as another user and that all of the grader is closed to other users;
`inside` then asks for these layers by name and refuses to grade below them. Every result says which were active.
"""

from __future__ import annotations

MEMORY_MB = 768  # of a container by default
SECONDS = 600.0  # of a run by default
FOLDER = "climb"  # in the zip, and so in /autograder/source
SETTINGS = "settings.json"
