"""`python -m segexplorer.frontends.cli`, for where the `segexplorer` script is not on the path."""

from segexplorer.frontends.cli import main

if __name__ == "__main__":
    main()
