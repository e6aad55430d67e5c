"""The one error and the warnings that users of lapjax see."""

import difflib
from collections.abc import Iterable


class LapjaxError(ValueError):
    """Bad input: the message names the file, field or option at fault and the remedy.

    The command line prints it without a traceback and exits with status 2.

    Examples:
      >>> import lapjax
      >>> lapjax.get_recipe("fast-mediun-sam")
      Traceback (most recent call last):
      lapjax.errors.LapjaxError: unknown recipe 'fast-mediun-sam': did you mean 'fast-medium-sam'? `lapjax recipes` lists them all
    """


class MissingPackage(LapjaxError, ImportError):
    """A package that is not installed; the message names it and the extra that brings it."""


class LapjaxWarning(UserWarning):
    """Something that is allowed and may not be what was meant; the command line prints it as a note."""


class TermsWarning(LapjaxWarning):
    """What a shipped model was trained on binds its use; `warnings.simplefilter("ignore", TermsWarning)` once you know."""


def nearest(
    word: str, known: Iterable[str], *, cutoff: float = 0.6, form: str = ", did you mean {!r}"
) -> str:
    """`form` with the name in `known` that is nearest to `word`; "" when none is as similar as `cutoff` in [0, 1]."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return form.format(near[0]) if near else ""


def no_split(name: object, split: str, splits: Iterable[str]) -> LapjaxError:
    """The error to raise where a data set has no split of that name."""
    near = nearest(split, splits := list(splits), form="did you mean {!r}? ")
    return LapjaxError(f"{name} has no split {split!r}: {near}it has {', '.join(splits)}")
