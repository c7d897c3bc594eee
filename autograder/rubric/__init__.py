"""Written answers, marked by a person: a rubric's points beside the results of a class, in a local page or in files."""
