"""`python -m mixture`."""

from mixture.cli import main

if __name__ == "__main__":
    main()
