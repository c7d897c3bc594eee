"""The grader. Trusted code, except `probes/`, which runs beside the learner's."""

__version__ = "0.1.0"
