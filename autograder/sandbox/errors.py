"""What can go wrong with the sandbox itself."""


class SandboxError(RuntimeError):
    """The sandbox could not be started or closed, or is below the level asked for. One line for a person."""
