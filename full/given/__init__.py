"""Given code of the full track: complete, correct, and not to be edited."""
