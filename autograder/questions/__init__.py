"""Written questions: the file a learner answers them in, and the marking of what can be marked by a machine."""
