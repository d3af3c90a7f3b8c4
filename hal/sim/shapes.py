"""Shapes of MJCF that arms, tools and tasks are built from.

A shape is seen and passed through, unless it is added with TOUCHES or FIXED.
"""

from xml.etree.ElementTree import Element, SubElement

Vector = tuple[float, float, float]

TOUCHES = {"contype": "1", "conaffinity": "1"}  # tools, and things that move
FIXED = {"contype": "0", "conaffinity": "1"}  # what these touch, and what does not touch its like
WHITE, DARK, BLACK = "0.92 0.92 0.90 1", "0.22 0.23 0.26 1", "0.10 0.11 0.13 1"
BLUE, GREEN, ORANGE = "0.30 0.45 0.62 1", "0.55 0.64 0.60 1", "0.90 0.42 0.12 1"
STEEL = "0.62 0.65 0.70 1"
RED, YELLOW, WOOD = "0.80 0.16 0.14 1", "0.93 0.76 0.18 1", "0.62 0.55 0.47 1"


def text(numbers: tuple[float, ...]) -> str:
    """Numbers as an attribute of MJCF."""
    return " ".join(f"{x:.6g}" for x in numbers)


def add_box(body: Element, at_m: Vector, half_m: Vector, rgba: str, **more: str) -> None:
    """A box of twice `half_m`, its middle at `at_m` of its body."""
    SubElement(body, "geom", {"type": "box", "pos": text(at_m), "size": text(half_m), "rgba": rgba} | more)


def add_cylinder(body: Element, at_m: Vector, size_m: tuple[float, float], rgba: str, **more: str) -> None:
    """An upright cylinder of radius and half height `size_m`."""
    SubElement(body, "geom", {"type": "cylinder", "pos": text(at_m), "size": text(size_m), "rgba": rgba} | more)


def add_rod(body: Element, start_m: Vector, end_m: Vector, radius_m: float, rgba: str, **more: str) -> None:
    """A cylinder between two points with half a ball at each."""
    fields = {"type": "capsule", "fromto": text((*start_m, *end_m)), "size": str(radius_m), "rgba": rgba}
    SubElement(body, "geom", fields | more)


def add_ball(body: Element, at_m: Vector, radius_m: float, rgba: str, **more: str) -> None:
    """A ball."""
    SubElement(body, "geom", {"type": "sphere", "pos": text(at_m), "size": str(radius_m), "rgba": rgba} | more)


def add_body(parent: Element, name: str, at_m: tuple[float, ...]) -> Element:
    """A body that stands where it is put: a task may move it between two episodes (`World.move`)."""
    return SubElement(parent, "body", name=name, pos=text(at_m))


def add_table(world: Element, origin_m: tuple[float, ...], top_m: float) -> None:
    """A table on the bench under the work frame, its top at height `top_m` of that frame."""
    x, y, z = origin_m
    half_m = (z + top_m) / 2
    add_box(world, (x, y, half_m), (0.15, 0.15, half_m), WOOD, name="table", **FIXED)


def add_free_body(parent: Element, name: str, at_m: tuple[float, ...]) -> Element:
    """A body that falls, is pushed and carried; its free joint has its name."""
    body = add_body(parent, name, at_m)
    SubElement(body, "freejoint", name=name)
    return body
