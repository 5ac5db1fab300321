"""`python -m aiecof` is the `aiecof` command."""

from aiecof.cli import main

if __name__ == "__main__":
    main()
