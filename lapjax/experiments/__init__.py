"""The experiments of the paper, and what followed them, as resumable grids.

`grids` says what is trained, `trials` trains and measures a cell, `records` keeps its result, `collect` gathers what was left,
`reproduce` runs a grid and `summary` makes its tables and figures.
"""
