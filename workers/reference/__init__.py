"""The reference pages, made from the code so that they cannot go stale: `make docs` writes them."""
