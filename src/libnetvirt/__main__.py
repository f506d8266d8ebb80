"""``python -m libnetvirt`` is the command line ``netvirt``."""

from libnetvirt.cli.main import main

if __name__ == "__main__":
    main()
