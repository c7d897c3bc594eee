"""The runs of lessons 8 to 11: a learner's `train` (or the reference's) on language models, with what a run needs around it."""
