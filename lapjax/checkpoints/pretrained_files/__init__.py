"""The models that come with lapjax: ONNX files, and what was measured of each (models.json)."""
