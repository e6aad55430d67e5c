"""Draws docs/architecture.svg from the imports of lapjax/: rooms on floors, each above what it imports.

    python tools/draw_architecture.py [--out docs/architecture.svg]

A room is a file or a folder at lapjax/'s first level, and datasets/. A room's floor is one above the highest room that it
imports. Arrows that follow from others are left out. Imports that would close a circle between rooms are drawn dashed and
said on the way.
"""

import argparse
import ast
import graphlib
import html
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]
# What the rooms are for, and their colours: fill, stroke, and those in the dark.
KINDS = {
    "the paper": ("#fff1d6", "#c98a1b"),
    "foundations": ("#eef1f4", "#77828d"),
    "wings": ("#d9f2ee", "#14857a"),
}
PAPER = {"heatmaps", "losses", "networks", "convolutions"}
# The face of the package, and what starts it: they import everything and nothing imports them.
LEFT_OUT = {"__init__", "__main__"}
HEIGHT, GAP, FLOOR, MARGIN, FONT = 26, 14, 74, 24, 12.5


def rooms(root: pathlib.Path = ROOT) -> dict[str, list[pathlib.Path]]:
    """Room -> its Python files."""
    found = {}
    for path in sorted((root / "lapjax").iterdir()):
        if path.suffix == ".py" and path.stem not in LEFT_OUT:
            found[path.stem] = [path]
        elif path.is_dir() and (files := sorted(path.rglob("*.py"))):
            found[path.name] = files
    found["datasets"] = sorted((root / "datasets").rglob("*.py"))
    return found


def imports(root: pathlib.Path = ROOT) -> dict[str, set[str]]:
    """Room -> the rooms that it imports, inside functions too."""
    known = rooms(root)
    graph = {}
    for room, files in known.items():
        found = set()
        for path in files:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module:
                    names = [f"{node.module}.{alias.name}" for alias in node.names]
                else:
                    continue
                found |= {name.split(".")[1] for name in names if name.startswith("lapjax.")}
        graph[room] = found & known.keys() - {room}
    return graph


def without_circles(graph: dict[str, set[str]]) -> tuple[dict[str, set[str]], list[tuple[str, str]]]:
    """The graph less one import of each circle, and those imports."""
    graph, cut = {room: set(others) for room, others in graph.items()}, []
    while True:
        try:
            graphlib.TopologicalSorter(graph).prepare()
            return graph, cut
        except graphlib.CycleError as error:
            circle = error.args[1]
            # graphlib gives each room before the one that imports it; the room that fewest others rest on gives way.
            pairs = [(after, before) for before, after in zip(circle, circle[1:], strict=False)]
            weight = {pair: len(graph[pair[0]]) for pair in pairs if pair[1] in graph[pair[0]]}
            user, used = min(weight, key=lambda pair: (weight[pair], pair))
            graph[user].discard(used)
            cut.append((user, used))


def floors(graph: dict[str, set[str]]) -> dict[str, int]:
    """Room -> its floor, from 0."""
    floor = {}
    for room in graphlib.TopologicalSorter(graph).static_order():
        floor[room] = 1 + max((floor[other] for other in graph[room]), default=-1)
    return floor


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The graph without the arrows that follow from others."""
    reach = {}
    for room in graphlib.TopologicalSorter(graph).static_order():
        reach[room] = set().union(*({other} | reach[other] for other in graph[room]))
    return {
        room: {one for one in others if not any(one in reach[other] for other in others - {one})}
        for room, others in graph.items()
    }


def arrange(graph: dict[str, set[str]], floor: dict[str, int], width: float, sizes) -> dict[str, float]:
    """Room -> the x of its middle: rooms near what they import and what imports them, none over another."""
    levels = [
        sorted(room for room in floor if floor[room] == level) for level in range(max(floor.values()) + 1)
    ]
    users = {room: [user for user in graph if room in graph[user]] for room in graph}
    place = {}
    for row in levels:
        place |= {room: width * (index + 0.5) / len(row) for index, room in enumerate(row)}
    for sweep in range(24):
        order = levels if sweep % 2 == 0 else levels[::-1]
        for row in order:
            near = {room: [*graph[room], *users[room]] for room in row}
            wish = {
                room: sum(place[other] for other in near[room]) / len(near[room])
                if near[room]
                else place[room]
                for room in row
            }
            row.sort(key=lambda room: (wish[room], room))
            place |= _apart(row, wish, width, sizes)
    return place


def _apart(row, wish, width, sizes) -> dict[str, float]:
    """The wishes moved as little as it takes for the boxes to stand beside each other within the width."""
    middle = dict(wish)
    for _ in range(200):
        for left, right in zip(row, row[1:], strict=False):
            lack = (sizes[left] + sizes[right]) / 2 + GAP - (middle[right] - middle[left])
            if lack > 0:
                middle[left] -= lack / 2
                middle[right] += lack / 2
        for room in row:
            middle[room] = min(max(middle[room], sizes[room] / 2), width - sizes[room] / 2)
    return middle


def draw(root: pathlib.Path = ROOT) -> str:
    """The picture as SVG."""
    known = rooms(root)
    graph, cut = without_circles(imports(root))
    floor, arrows = floors(graph), reduced(graph)
    labels = {
        room: f"{room}/" if len(files) > 1 or files[0].stem != room else room for room, files in known.items()
    }
    sizes = {room: 0.62 * FONT * len(label) + 22 for room, label in labels.items()}
    width = max(
        760.0,
        *(
            sum(sizes[room] + GAP for room in floor if floor[room] == level)
            for level in range(max(floor.values()) + 1)
        ),
    )
    place = arrange(arrows, floor, width, sizes)
    top = max(floor.values())
    height = 2 * MARGIN + top * FLOOR + HEIGHT + 40

    def middle(room):
        return MARGIN + place[room], MARGIN + (top - floor[room]) * FLOOR + HEIGHT / 2

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width + 2 * MARGIN:.0f} {height:.0f}" '
        f'font-family="system-ui, sans-serif" font-size="{FONT}">',
        "<title>The rooms of lapjax and what they import</title>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#8a949e"/></marker></defs>',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    dashed = set(cut)
    drawn = [(room, other) for room in sorted(arrows) for other in sorted(arrows[room])]
    for room, other in [*drawn, *cut]:
        (x0, y0), (x1, y1) = middle(room), middle(other)
        down = 1 if y1 >= y0 else -1
        y0, y1 = y0 + down * HEIGHT / 2, y1 - down * HEIGHT / 2
        bend = down * min(30.0, abs(y1 - y0) / 2)
        style = ' stroke-dasharray="4 3" stroke="#c4432b"' if (room, other) in dashed else ' stroke="#a9b2bb"'
        lines.append(
            f'<path d="M{x0:.1f} {y0:.1f} C{x0:.1f} {y0 + bend:.1f} {x1:.1f} {y1 - bend:.1f} {x1:.1f} {y1:.1f}" '
            f'fill="none" stroke-width="1.1" marker-end="url(#head)"{style}/>'
        )
    for room in sorted(known):
        fill, stroke = KINDS[kind(room, labels[room])]
        x, y = middle(room)
        lines.append(
            f'<rect x="{x - sizes[room] / 2:.1f}" y="{y - HEIGHT / 2:.1f}" width="{sizes[room]:.1f}" height="{HEIGHT}" '
            f'rx="5" fill="{fill}" stroke="{stroke}"/>'
            f'<text x="{x:.1f}" y="{y + 4.3:.1f}" text-anchor="middle" fill="#20262b">{html.escape(labels[room])}</text>'
        )
    x = MARGIN
    for name, (fill, stroke) in KINDS.items():
        y = height - 24
        lines.append(f'<rect x="{x}" y="{y}" width="14" height="14" rx="3" fill="{fill}" stroke="{stroke}"/>')
        lines.append(f'<text x="{x + 20}" y="{y + 11.5}" fill="#20262b">{name}</text>')
        x += 60 + 7 * len(name)
    return "\n".join([*lines, "</svg>", ""])


def kind(room: str, label: str) -> str:
    """What a room is, for its colour."""
    if room in PAPER:
        return "the paper"
    return "wings" if label.endswith("/") else "foundations"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default=ROOT / "docs" / "architecture.svg", type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.out.write_text(draw(), encoding="utf-8")
    graph = imports()
    _, cut = without_circles(graph)
    for user, used in cut:
        print(f"a circle: {user} imports {used}, which rests on {user}")
    print(f"{arguments.out}: {len(graph)} rooms, {sum(map(len, graph.values()))} imports between them")


if __name__ == "__main__":
    main()
