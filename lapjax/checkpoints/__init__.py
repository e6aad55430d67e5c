"""Trained models on disk.

`run` has the run directories of a training (orbax) and `load_run`; `npz` the weights as one NumPy file; `model_card`,
`onnx_graph` and `onnx_weights` what an exported file says of itself, its graph, and the way back from it; `runtime` what computes
such a file; `pretrained` the models that come with lapjax.
"""
