"""The full track: the learner's files, one a lesson. Complete code they use is in `full.given`."""
