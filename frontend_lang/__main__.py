"""`python -m ramet` is the command line."""

from ramet.runtime.cli import main

if __name__ == "__main__":
    main()
