"""The `aiecof` command: it parses, calls and prints."""
