"""What a run is made of: frozen dataclasses, checked when they are made.

`override` changes one; `to_dict` and `from_dict` carry one through JSON. Lengths are in input px unless they
say otherwise.
"""

import dataclasses
import typing
from dataclasses import dataclass, field

from lapjax.errors import LapjaxError, nearest

__all__ = [
    "Augmentation",
    "Config",
    "Game",
    "Loss",
    "Model",
    "Optimiser",
    "Semi",
    "from_dict",
    "override",
    "to_dict",
]


def _choose(owner: str, name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        near = nearest(value, choices, form="did you mean {!r}? ") if isinstance(value, str) else ""
        raise LapjaxError(f"{owner}.{name} is {value!r}: {near}choose one of {', '.join(choices)}")


def _demand(condition: bool, message: str) -> None:
    if not condition:
        raise LapjaxError(message)


@dataclass(frozen=True)
class Model:
    """The generator and how an image reaches it: all that prediction needs to know besides the weights."""

    network: str = "fast"
    """"fast" (depthwise-separable, heatmaps at stride 4) or "poster" (the published network, stride 1)."""
    width: float = 1.0
    """Of the poster's network: 64 * width channels."""
    channels: int = 24
    """Of the fast network's stem; multiples of 16 are the fastest on CPUs with 512-bit vectors, of 8 on others."""
    blocks: tuple[int, int, int] = (2, 5, 5)
    """Of the fast network's stages at strides 4, 8 and 16."""
    input_size: int = 112
    """Side of the square input, divisible by 16."""
    crop: float = 1.4
    """Side of the crop as a multiple of the landmark box's longer side."""
    beta: float = 1.0
    """Multiplies the heatmaps before the softmax."""
    dropout: float = 0.0
    """Of the features before the heatmaps in the fast network, between the stages in the poster's."""
    dtype: str = "float32"
    """What the layers compute in: "float32" or "bfloat16". Parameters are float32 either way."""

    def __post_init__(self):
        _choose("model", "network", self.network, ("fast", "poster"))
        _choose("model", "dtype", self.dtype, ("float32", "bfloat16"))
        _demand(
            self.input_size >= 32 and self.input_size % 16 == 0,
            f"model.input_size {self.input_size} must be a multiple of 16, at least 32",
        )
        _demand(self.crop >= 1, f"model.crop {self.crop} must be at least 1: the crop holds the landmark box")
        _demand(self.beta > 0, f"model.beta {self.beta} must be above 0")
        _demand(0 <= self.dropout < 1, f"model.dropout {self.dropout} must be in [0, 1)")
        _demand(1 / 64 <= self.width <= 16, f"model.width {self.width} must be from 1/64 to 16")
        _demand(self.channels >= 1, f"model.channels {self.channels} must be at least 1")
        _demand(
            len(self.blocks) == 3 and min(self.blocks) >= 1,
            f"model.blocks {self.blocks} must be three numbers, each at least 1",
        )

    @property
    def stride(self) -> int:
        """Input pixels per heatmap cell."""
        return {"fast": 4, "poster": 1}[self.network]


@dataclass(frozen=True)
class Loss:
    """What labelled landmarks cost."""

    name: str = "laplace_kl"
    """"laplace_kl", "laplace_nll" (its likelihood limit), "gaussian_kl" or "sam" (coordinates alone)."""
    direction: str = "p||q"
    """Of the KL: "q||p", the poster's, or "p||q"."""
    combine: str = "axis"
    """"axis": KL_x + KL_y. "sum": one KL of b_x + b_y. "oriented": along each heatmap's principal axes, not x and y."""
    balance: float = 0.0
    """Of "laplace_kl": weighs a landmark with (b / t)^balance, 1 pulling easy and hard points alike under p||q."""
    target_scale: float = 1.0
    """t, where the schedule ends."""
    target_start: float | None = None
    """t at the first step, falling geometrically to `target_scale`; None: constant."""
    anneal: float = 0.6
    """The share of training over which t falls."""

    def __post_init__(self):
        _choose("loss", "name", self.name, ("laplace_kl", "laplace_nll", "gaussian_kl", "sam"))
        _choose("loss", "direction", self.direction, ("q||p", "p||q"))
        _choose("loss", "combine", self.combine, ("axis", "sum", "oriented"))
        _demand(0 <= self.balance <= 1, f"loss.balance {self.balance} must be in [0, 1]")
        _demand(self.target_scale > 0, f"loss.target_scale {self.target_scale} must be above 0 px")
        _demand(
            self.target_start is None or self.target_start > 0,
            f"loss.target_start {self.target_start} must be above 0 px",
        )
        _demand(0 < self.anneal <= 1, f"loss.anneal {self.anneal} must be in (0, 1]")


@dataclass(frozen=True)
class Game:
    """The game against D (eq. 4 and 5); off unless `adversary`."""

    adversary: bool = False
    weight: float = 0.001
    """lambda of eq. (5)."""
    warmup: float = 0.2
    """The share of training that is supervised alone."""
    order: str = "before"
    """D is updated "before" G, which then meets the new D, or "with" it, both from the same parameters."""
    form: str = "non-saturating"
    """G's side: "non-saturating" or "literal"."""
    render: str = "laplace"
    """omega, the real heatmaps: "laplace" or "gaussian"."""
    render_scale: float = 1.0
    """The scale of omega in input px."""
    instance_noise: float = 0.0
    """Standard deviation of noise on the heatmaps that D sees, whose peaks are near 1."""
    r1: float = 0.0
    """Weight of the R1 gradient penalty on real heatmaps."""
    learning_rate: float = 1e-4
    """Of D's Adam, constant."""
    features: tuple[int, ...] = (64, 128, 256)
    """Channels of D's strided convolutions."""

    def __post_init__(self):
        _choose("game", "order", self.order, ("before", "with"))
        _choose("game", "form", self.form, ("non-saturating", "literal"))
        _choose("game", "render", self.render, ("laplace", "gaussian"))
        _demand(self.weight >= 0, f"game.weight {self.weight} must not be negative")
        _demand(0 <= self.warmup < 1, f"game.warmup {self.warmup} must be in [0, 1)")
        _demand(self.render_scale > 0, f"game.render_scale {self.render_scale} must be above 0 px")
        _demand(self.instance_noise >= 0, f"game.instance_noise {self.instance_noise} must not be negative")
        _demand(self.r1 >= 0, f"game.r1 {self.r1} must not be negative")
        _demand(self.learning_rate > 0, f"game.learning_rate {self.learning_rate} must be above 0")
        _demand(
            bool(self.features) and all(f >= 1 for f in self.features),
            f"game.features {self.features} must hold one width or more, each at least 1",
        )


@dataclass(frozen=True)
class Semi:
    """What unlabelled faces teach without D."""

    method: str = "none"
    """"labels" or "heatmaps" of trained models, "teacher" (G's moving average) or "equivariance"; see `lapjax.training.semi_supervised`."""
    weight: float = 1.0
    """Of its loss beside that of the labelled faces."""
    ramp: float = 0.0
    """The share of training over which the weight rises from next to nothing, as exp(-5 (1 - x)^2); 0: all at once."""
    models: tuple[str, ...] = ()
    """Runs, files or shipped models whose mean "heatmaps" are learned; of the same scheme, input and crop."""

    def __post_init__(self):
        _choose("semi", "method", self.method, ("none", "labels", "heatmaps", "teacher", "equivariance"))
        _demand(
            (self.method == "heatmaps") == bool(self.models),
            "semi.method heatmaps and semi.models, whose they are, need each other: give both or neither",
        )
        _demand(self.weight >= 0, f"semi.weight {self.weight} must not be negative")
        _demand(0 <= self.ramp <= 1, f"semi.ramp {self.ramp} must be in [0, 1]")


@dataclass(frozen=True)
class Augmentation:
    """Random changes of every training crop; `Augmentation(enabled=False)` crops alone."""

    enabled: bool = True
    rotation: float = 20.0
    """Degrees, uniform both ways."""
    rotation_probability: float = 0.7
    scale: float = 0.15
    """The crop is scaled by e^u, u uniform in +-scale."""
    shift: float = 0.06
    """Of the crop's side, uniform per axis."""
    flip: bool = True
    """Mirror half of the images, where the scheme knows which landmarks swap."""
    mirror_lean: float = 0.0
    """How far labels sit right of what they mark, in sides of the box; mirrored ones are moved back by twice as much."""
    colour: float = 0.2
    """Strength of the brightness, contrast and per-channel changes."""
    grey: float = 0.1
    """Probability of a grey image."""
    blur: float = 0.1
    """Probability of a blur."""
    occlusion: float = 0.2
    """Probability of one box of flat colour or noise over the image."""

    def __post_init__(self):
        for name in ("rotation_probability", "grey", "blur", "occlusion"):
            _demand(0 <= getattr(self, name) <= 1, f"augment.{name} {getattr(self, name)} must be in [0, 1]")
        for name in ("rotation", "scale", "shift", "colour"):
            _demand(getattr(self, name) >= 0, f"augment.{name} {getattr(self, name)} must not be negative")
        _demand(
            abs(self.mirror_lean) <= 0.1, f"augment.mirror_lean {self.mirror_lean} must be within +-0.1 boxes"
        )


@dataclass(frozen=True)
class Optimiser:
    """Adam on G: warm-up, then a cosine to `final` of the peak."""

    learning_rate: float = 1e-3
    """The peak."""
    warmup_steps: int = 200
    """Steps of linear warm-up, at most half of the run."""
    final: float = 0.01
    """The last step's learning rate as a share of the peak."""
    weight_decay: float = 1e-5
    """L2, added to the gradient."""
    clip: float = 1.0
    """Global norm of G's gradient; 0 leaves it be."""
    ema: float = 0.998
    """Decay of the moving average of G that evaluation uses; 0 for none."""

    def __post_init__(self):
        _demand(self.learning_rate > 0, f"optimiser.learning_rate {self.learning_rate} must be above 0")
        _demand(self.warmup_steps >= 0, f"optimiser.warmup_steps {self.warmup_steps} must not be negative")
        _demand(0 <= self.final <= 1, f"optimiser.final {self.final} must be in [0, 1]")
        _demand(self.weight_decay >= 0, f"optimiser.weight_decay {self.weight_decay} must not be negative")
        _demand(self.clip >= 0, f"optimiser.clip {self.clip} must not be negative")
        _demand(0 <= self.ema < 1, f"optimiser.ema {self.ema} must be in [0, 1)")


@dataclass(frozen=True)
class Config:
    """A whole training run: frozen, checked when it is made. Lengths are in input px.

    Raises:
      LapjaxError: a value out of its range, or two that contradict each other; the message names the field.

    Examples:
      >>> import lapjax
      >>> lapjax.Config(dataset="mine", epochs=10.0).model.network
      'fast'
    """

    model: Model = field(default_factory=Model)
    """The generator and its input."""
    loss: Loss = field(default_factory=Loss)
    """Of labelled faces."""
    game: Game = field(default_factory=Game)
    """Against D, over unlabelled faces."""
    semi: Semi = field(default_factory=Semi)
    """Other ways to learn from them."""
    augment: Augmentation = field(default_factory=Augmentation)
    """Of every training crop, labelled or not."""
    optimiser: Optimiser = field(default_factory=Optimiser)
    """Of G."""
    dataset: str = "the300w"
    """A prepared set, or a pack file (*.npz)."""
    train_split: str = "train"
    """Of that set."""
    validation_split: str = "validation"
    """Of that set; it chooses the best checkpoint."""
    train_limit: int | None = None
    """Only so many of the labelled faces, drawn by the seed; fewer are among more of the same seed."""
    unlabelled: str | None = None
    """A set or pack of unlabelled faces, for the game or for `semi`."""
    unlabelled_split: str = "train"
    """Of that set."""
    unlabelled_limit: int | None = None
    """Only the first so many unlabelled faces."""
    start: str | None = None
    """A run or model whose weights this one starts from, all but the last layers where the landmarks are others."""
    batch_size: int = 16
    """Labelled faces a step, over all devices."""
    unlabelled_batch_size: int = 16
    """Unlabelled faces a step, over all devices."""
    epochs: float = 100.0
    """Passes over the labelled set."""
    seed: int = 0
    """Of the parameters, the order of the faces, the augmentation and the dropout."""
    evaluate_every: float = 5.0
    """Epochs between validations, each of which saves a checkpoint."""
    placement: str = "jit"
    """"jit" over a mesh of all devices, or "pmap"."""
    dispatch: int = 1
    """Steps in one call, for accelerators that would wait for the host; G's two gradients are then not measured."""

    def __post_init__(self):
        _choose("config", "placement", self.placement, ("jit", "pmap"))
        for name in ("batch_size", "unlabelled_batch_size", "dispatch"):
            _demand(getattr(self, name) >= 1, f"{name} {getattr(self, name)} must be at least 1")
        for name in ("epochs", "evaluate_every"):
            _demand(0 < getattr(self, name) < 1e6, f"{name} {getattr(self, name)} must be above 0 and finite")
        for name in ("train_limit", "unlabelled_limit"):
            value = getattr(self, name)
            _demand(value is None or value >= 1, f"{name} {value} must be at least 1")
        _demand(
            self.dispatch == 1 or self.placement == "jit",
            f"dispatch {self.dispatch} needs placement jit: pmap calls the program step by step",
        )
        _demand(0 <= self.seed < 2**32, f"seed {self.seed} must be in [0, 2**32)")
        _demand(
            not self.game.adversary or self.unlabelled is not None,
            "the game needs unlabelled faces: name a prepared set or a pack with --unlabelled, "
            "or turn it off with --game.no-adversary",
        )
        _demand(
            self.semi.method == "none" or self.unlabelled is not None,
            f"semi.method {self.semi.method} needs more faces: name a prepared set or a pack with --unlabelled",
        )
        _demand(
            self.semi.method == "none" or not self.game.adversary,
            f"semi.method {self.semi.method} and the game are two runs: turn one off",
        )
        _demand(
            self.semi.method != "teacher" or self.optimiser.ema > 0,
            "semi.method teacher learns from the moving average: give it an optimiser.ema above 0",
        )

    @property
    def uses_unlabelled(self) -> bool:
        """Whether unlabelled faces take part."""
        return self.game.adversary or self.semi.method != "none"


def to_dict(config) -> dict:
    """A configuration as plain JSON types."""
    return dataclasses.asdict(config)


def from_dict(kind, values: dict):
    """A dataclass of this module back from `to_dict`.

    Raises:
      LapjaxError: a field that this version does not know (the nearest is suggested) or a value out of range.
    """
    hints = typing.get_type_hints(kind)
    arguments = {}
    for name, value in values.items():
        if name not in hints:
            raise LapjaxError(f"unknown option {name!r} of {kind.__name__}{_suggest(name, hints)}")
        if dataclasses.is_dataclass(hints[name]):
            value = from_dict(hints[name], value)
        arguments[name] = tuple(value) if isinstance(value, list) else value
    return kind(**arguments)


def override(config, **changes):
    """A copy of a configuration with fields changed, a dict changing fields inside.

    Args:
      config: a `Config` or a part of one.
      **changes: field = value; lengths in input px.

    Raises:
      LapjaxError: as `from_dict`.

    Examples:
      >>> import lapjax
      >>> config = lapjax.override(lapjax.get_recipe("toy-sam"), epochs=3.0, loss={"name": "laplace_kl"})
      >>> config.epochs, config.loss.name
      (3.0, 'laplace_kl')
    """
    values = {}
    for name, value in changes.items():
        if name not in vars(config):
            raise LapjaxError(
                f"unknown option {name!r} of {type(config).__name__}{_suggest(name, vars(config))}"
            )
        value = tuple(value) if isinstance(value, list) else value
        values[name] = override(getattr(config, name), **value) if isinstance(value, dict) else value
    return dataclasses.replace(config, **values)


def _suggest(name: str, names) -> str:
    return nearest(name, names, form=": did you mean {!r}?") or f": choose one of {', '.join(names)}"
