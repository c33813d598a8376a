"""The bus contract and its two backends: `memory` for tests and the demo, `kafka` for the line."""
