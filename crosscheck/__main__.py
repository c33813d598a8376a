"""The command ``crosscheck``, and ``python -m crosscheck``: the packages are looked at before one is used."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from workers.cli import main as run

    run()


if __name__ == "__main__":
    main()
