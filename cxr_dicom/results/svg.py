"""Small drawings in SVG whose colours come from the style of the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Drawn = Markup


def element(name: str, content: str | Markup = "", **attributes: object) -> Drawn:
    """Return an element; ``class_`` is its class, an underscore in a name becomes a hyphen."""
    written = "".join(
        f' {"class" if key == "class_" else key.replace("_", "-")}="{escape(_short(value))}"'
        for key, value in attributes.items()
    )
    return Markup(f"<{name}{written}>{escape(content)}</{name}>")  # noqa: S704, both parts are escaped


def together(parts: Iterable[str | Markup]) -> Drawn:
    """Return the parts one after the other."""
    return Markup("").join(parts)


def drawing(parts: Iterable[Markup], width: float, height: float, label: str, class_: str = "") -> Drawn:
    """Return a picture that fills the width it gets; ``label`` says what it shows."""
    box = f"0 0 {_short(width)} {_short(height)}"
    return element("svg", together(parts), viewBox=box, role="img", aria_label=label, class_=f"plot {class_}".strip())


def text(x: float, y: float, words: str, anchor: str = "start", class_: str = "t") -> Drawn:
    """Return one line of text."""
    return element("text", words, x=x, y=y, text_anchor=anchor, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str = "axis") -> Drawn:
    """Return a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def rectangle(x: float, y: float, width: float, height: float, class_: str, hint: str = "", **more: object) -> Drawn:
    """Return a rectangle; ``hint`` shows under the pointer."""
    return element("rect", title(hint), x=x, y=y, width=width, height=height, class_=class_, **more)


def path(data: str, class_: str, hint: str = "", **more: object) -> Drawn:
    """Return a path."""
    return element("path", title(hint), d=data, class_=class_, **more)


def title(hint: str) -> Drawn:
    """Return what shows under the pointer."""
    return element("title", hint) if hint else Markup("")


def points(pairs: Iterable[tuple[float, float]]) -> str:
    """Return path data of straight lines between points."""
    return "M" + "L".join(f"{_short(x)} {_short(y)}" for x, y in pairs)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """A rectangle with a scale along either side."""

    width: float
    height: float
    x: tuple[float, float]  # values at the left and at the right
    y: tuple[float, float]  # values at the bottom and at the top
    left: float = 40
    right: float = 10
    top: float = 10
    bottom: float = 32

    def at_x(self, value: float) -> float:
        """Return where a value lies from left to right."""
        return self.left + (value - self.x[0]) / (self.x[1] - self.x[0]) * (self.width - self.left - self.right)

    def at_y(self, value: float) -> float:
        """Return where a value lies from top to bottom."""
        return (
            self.height
            - self.bottom
            - (value - self.y[0]) / (self.y[1] - self.y[0]) * (self.height - self.top - self.bottom)
        )

    def axes(
        self, x: Sequence[tuple[float, str]], y: Sequence[tuple[float, str]], x_title: str = "", y_title: str = ""
    ) -> list[Drawn]:
        """Return both axes with ticks at values, and faint lines at those of the y axis."""
        floor, end = self.height - self.bottom, self.width - self.right
        parts = [line(self.left, floor, end, floor)]
        for value, words in x:
            parts.append(line(self.at_x(value), floor, self.at_x(value), floor + 4))
            parts.append(text(self.at_x(value), floor + 15, words, "middle"))
        for value, words in y:
            parts.append(line(self.left, self.at_y(value), end, self.at_y(value), "grid"))
            parts.append(text(self.left - 6, self.at_y(value) + 3.5, words, "end"))
        if x_title:
            parts.append(text((self.left + end) / 2, self.height - 2, x_title, "middle"))
        if y_title:
            parts.append(text(2, self.top - 8, y_title))
        return parts

    def steps(self, edges: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
        """Return the outline of a histogram: ``edges`` are one more than ``values``."""
        outline = [(self.at_x(edges[0]), self.at_y(0))]
        for number, value in enumerate(values):
            outline += [
                (self.at_x(edges[number]), self.at_y(value)),
                (self.at_x(edges[number + 1]), self.at_y(value)),
            ]
        return [*outline, (self.at_x(edges[len(values)]), self.at_y(0))]


def round_ticks(high: float, number: int = 4) -> list[float]:
    """Return about ``number`` round values from 0 up to at most ``high``."""
    if high <= 0:
        return [0.0]
    step = 10.0 ** len(str(int(high))) / 1000 if high >= 1 else 0.001
    while high / step > number:
        step *= 2 if str(step * 2).strip("0.")[:1] != "4" else 2.5
    return [step * tick for tick in range(int(high / step) + 1)]


def _short(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
