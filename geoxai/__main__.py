"""``python -m geoxai`` is the command line."""

from geoxai.cli import main

if __name__ == "__main__":
    main()
