"""The commands, by what one comes with."""

__all__ = ["COMMANDS", "DOORS"]

# What you have -> command -> the module of lapjax.cli that has it, and what it does, in a line of 66 characters.
DOORS = {
    "I have a picture": {
        "locate": ("deployment", "the points of one face in a photograph"),
        "models": ("deployment", "the trained networks that come with lapjax"),
    },
    "I have labelled images": {
        "prepare": ("data", "a folder of images becomes a data set of square crops"),
        "train": ("training", "a recipe and a data set become a trained network, a run"),
        "calibrate": ("evaluation", "fits how far a run's points may be off, on images of yours"),
        "evaluate": ("evaluation", "the errors of a run on a split of a data set"),
        "report": ("evaluation", "a page about runs: errors, pictures, confidence, training"),
        "export": ("deployment", "a run as one file that needs no JAX"),
        "boxes": ("data", "the boxes that a run finds in images without labels"),
        "label": ("data", "the points that runs find there, to train others on"),
    },
    "I have a paper to write": {
        "recipes": ("training", "networks, sizes and losses to start from"),
        "compare": ("evaluation", "which of two is better on the same images, and how surely"),
        "reproduce": ("experiments", "the experiments of the paper, and what followed"),
    },
}
COMMANDS = {command: module for door in DOORS.values() for command, (module, _) in door.items()}
