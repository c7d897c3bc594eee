"""Given code of the toy track: complete, correct, and not to be edited."""
