"""Faces drawn procedurally with their 68 landmarks: the set that needs no download."""

from lapjax.datasets.toy_faces.scene import draw as draw
from lapjax.datasets.toy_faces.sets import SPLITS as SPLITS
from lapjax.datasets.toy_faces.sets import generate as generate
