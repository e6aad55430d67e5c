"""Training: `train` is the way in.

`game` has the players and their state, `step` one pure step, `supervised` what labels ask of heatmaps, `semi_supervised` what
samples without labels teach, `sharding` where the step runs, `material` and `loop` what happens around it.
"""
