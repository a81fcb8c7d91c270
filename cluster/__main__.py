"""``python -m cluster`` is the ``steady`` command, so that a Ray job needs no installed package."""

from cluster.cli import main

if __name__ == "__main__":
    main()
