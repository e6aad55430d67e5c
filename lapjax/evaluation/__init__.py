"""A trained model on labelled or unlabelled samples.

`evaluate` predicts and scores; `calibrate` fits and assesses its confidence; `robustness` moves its boxes; `pseudo_labels` and
`boxes` let it label and frame samples that nobody labelled.
"""
