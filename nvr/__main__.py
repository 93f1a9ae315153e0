"""`python -m nvr`."""

from nvr.cli import main

if __name__ == "__main__":
    main()
