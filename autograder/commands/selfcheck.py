"""`climb selfcheck`: the course checks itself."""
import typer


def register(app: typer.Typer) -> None:
    pass
