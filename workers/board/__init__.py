"""The board: what a line does, shown in a browser; rejects are reviewed here. It decides nothing."""
