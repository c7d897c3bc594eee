"""The length before each message between the grader and a spawned worker."""

import struct

LENGTH = struct.Struct(">Q")
