"""Where the photograph of a prepared face is."""

import pathlib


def find(stem: pathlib.Path) -> pathlib.Path:
    """The image of that path without its ending; ends the program where there is none."""
    found = [path for path in (stem.with_name(stem.name + end) for end in (".jpg", ".png")) if path.exists()]
    if not found:
        raise SystemExit(f"no photograph {stem}.jpg or .png: give --photographs the folder that was prepared")
    return found[0]
