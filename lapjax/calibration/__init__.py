"""From a network's scale b to an error in pixels: `scale` applies a calibration, `conformal` fits one on held-out samples."""
