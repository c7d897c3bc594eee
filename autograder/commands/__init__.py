"""One module a command of `climb`; `autograder.cli` puts them together."""
