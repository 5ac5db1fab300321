"""`python -m aiecof` is the `aiecof` command."""

from aiecof.cli.app import app

if __name__ == "__main__":
    app()
