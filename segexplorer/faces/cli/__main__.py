"""`python -m segexplorer.faces.cli`, for where the `segexplorer` script is not on the path."""

from segexplorer.faces.cli import main

if __name__ == "__main__":
    main()
