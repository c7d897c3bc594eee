"""The runs of lessons 8 to 11: a learner's `train` (or the reference's) on language models, with all that a run needs around it."""
