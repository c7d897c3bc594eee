"""Which submissions are alike beyond what the task makes alike: a list to look at, and no verdict."""
