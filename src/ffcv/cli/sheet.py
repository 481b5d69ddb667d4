"""Contact sheets: pictures, the parts of them that views are made of, the views, and what was done to them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""One a view, told apart also by people who see few colours (Okabe and Ito)."""

INK, GREY, PAPER = "#1a1a1a", "#6b6b6b", "white"
PICTURE = 320  # pixels: the longer side of a picture beside its views
ALONE = 200  # and of one without
VIEW = 224  # the side of a view: smaller ones are enlarged by a whole number
MARGIN, GAP, LINE, STRIPE, BORDER, NUMBER = 20, 14, 18, 4, 3, 16


class Box(NamedTuple):
    """A part of a picture, in the pixels of the file."""

    top: int
    left: int
    height: int
    width: int


class Picture(NamedTuple):
    """What the file holds: pixels uint8 [h, w, 3], maybe shrunk, and height and width in the file."""

    pixels: np.ndarray
    height: int
    width: int
    text: list[str]


class View(NamedTuple):
    """What the loader made of it: pixels uint8 [H, W, 3]; paragraphs of phrases."""

    pixels: np.ndarray
    box: Box
    text: list[list[str]]


class Row(NamedTuple):
    """A picture and its views."""

    picture: Picture
    views: list[View]


class Place(NamedTuple):
    """Where something lies in a sheet, in its pixels."""

    left: int
    top: int
    width: int
    height: int


def enlargement(side: int, room: int) -> int:
    """How many times an image with that longer side is enlarged: a whole number, so that its pixels stay."""
    return max(1, room // side)


class Sheet:
    """A sheet of rows, or, where no row has views, of pictures side by side.

    Attributes:
        image: The drawing.
        pictures: The pictures' places, in order.
        views: The views' places, of each row.
    """

    def __init__(self, heading: str, rows: Sequence[Row]) -> None:
        self._font, self._large = _font(13), _font(16)
        self.pictures: list[Place] = []
        self.views: list[list[Place]] = []
        room = PICTURE if any(row.views for row in rows) else ALONE
        drawn = [_DrawnRow(row, room, self._font) for row in rows]
        lines = self._arrange(drawn)
        width = max(sum(row.width + GAP for row in line) - GAP for line in lines)
        heading_lines = wrap(heading.split(" "), self._large, width, " ")
        top = MARGIN + 22 * len(heading_lines) + GAP
        height = top + sum(max(row.height for row in line) + GAP for line in lines) - GAP + MARGIN
        self.image = Image.new("RGB", (width + 2 * MARGIN, height), PAPER)
        draw = ImageDraw.Draw(self.image)
        for number, text in enumerate(heading_lines):
            _write(draw, (MARGIN, MARGIN + 22 * number), text, INK, self._large)
        for line in lines:
            left = MARGIN
            for row in line:
                self._draw(draw, row, left, top)
                left += row.width + GAP
            top += max(row.height for row in line) + GAP

    @staticmethod
    def _arrange(rows: list[_DrawnRow]) -> list[list[_DrawnRow]]:
        """One row a line; pictures without views as many a line as make the sheet about as wide as high."""
        if any(row.views for row in rows):
            return [[row] for row in rows]
        columns = max(1, round(len(rows) ** 0.5 + 0.25))
        return [rows[i : i + columns] for i in range(0, len(rows), columns)]

    def _draw(self, draw: ImageDraw.ImageDraw, row: _DrawnRow, left: int, top: int) -> None:
        self.image.paste(row.picture, (left, top))
        self.pictures.append(Place(left, top, *row.picture.size))
        self._text(draw, (left, top + row.picture.height + 4), row.picture_text, INK)
        places = []
        left += row.picture_width + GAP
        for number, (image, text) in enumerate(row.views):
            colour = COLOURS[number % len(COLOURS)]
            draw.rectangle((left, top, left + image.width - 1, top + STRIPE - 1), fill=colour)
            self.image.paste(image, (left, top + STRIPE))
            places.append(Place(left, top + STRIPE, *image.size))
            self._text(draw, (left, top + STRIPE + image.height + 4), text, GREY)
            left += image.width + GAP
        self.views.append(places)

    def _text(self, draw: ImageDraw.ImageDraw, at: tuple[int, int], lines: list[str], first: str) -> None:
        for number, text in enumerate(lines):
            _write(draw, (at[0], at[1] + LINE * number), text, first if number == 0 else GREY, self._font)


class _DrawnRow:
    """A row's images as they are pasted, its text in lines, and the room that they take."""

    def __init__(self, row: Row, room: int, font: Any) -> None:
        self.picture = draw_boxes(row.picture, [view.box for view in row.views], room, font)
        self.picture_width = room
        self.picture_text = [line for text in row.picture.text for line in wrap([text], font, room)]
        self.views: list[tuple[Image.Image, list[str]]] = []
        for view in row.views:
            times = enlargement(max(view.pixels.shape[:2]), VIEW)
            image = Image.fromarray(view.pixels.repeat(times, axis=0).repeat(times, axis=1))
            self.views.append((image, [line for text in view.text for line in wrap(text, font, image.width)]))
        self.width = self.picture_width + sum(image.width + GAP for image, _ in self.views)
        heights = [self.picture.height + 4 + LINE * len(self.picture_text)]
        heights += [STRIPE + image.height + 4 + LINE * len(text) for image, text in self.views]
        self.height = max(heights)


def draw_boxes(picture: Picture, boxes: Sequence[Box], room: int, font: Any) -> Image.Image:
    """The picture, at most `room` pixels long, with numbered boxes whose outer edges are those of the crops."""
    image = Image.fromarray(picture.pixels)
    if (times := enlargement(max(image.size), room)) > 1:
        image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    elif max(image.size) > room:
        image.thumbnail((room, room))
    down, right = image.height / picture.height, image.width / picture.width
    draw = ImageDraw.Draw(image)
    numbers: list[tuple[int, int]] = []
    for box, colour in zip(boxes, cycle(COLOURS)):
        left, top = round(box.left * right), round(box.top * down)
        end_x = max(left, round((box.left + box.width) * right) - 1)
        end_y = max(top, round((box.top + box.height) * down) - 1)
        inner = (left + BORDER, top + BORDER, end_x - BORDER, end_y - BORDER)
        if inner[0] < inner[2] and inner[1] < inner[3]:
            draw.rectangle(inner, outline=PAPER)  # against colours like the picture's
        draw.rectangle((left, top, end_x, end_y), outline=colour, width=BORDER)
        while any(abs(left - x) < NUMBER and abs(top - y) < NUMBER for x, y in numbers):  # beside that of another box
            left += 1
        numbers.append((left, top))
    for number, ((left, top), colour) in enumerate(zip(numbers, cycle(COLOURS)), 1):
        draw.rectangle((left, top, left + NUMBER - 1, top + NUMBER - 1), fill=colour)
        _number(draw, left, top, number, font)
    return image


def wrap(phrases: Sequence[str], font: Any, width: int, joint: str = ", ") -> list[str]:
    """The phrases in lines of at most `width` pixels; a phrase that is longer by itself is cut."""
    lines: list[str] = []
    for number, phrase in enumerate(phrases):
        phrase = _shown(phrase, font) + ("," if joint == ", " and number + 1 < len(phrases) else "")
        if lines and font.getlength(f"{lines[-1]} {phrase}") <= width:
            lines[-1] = f"{lines[-1]} {phrase}"
            continue
        while font.getlength(phrase) > width and len(phrase) > 4:
            phrase = phrase.removesuffix("...")[:-1] + "..."
        lines.append(phrase)
    return lines


def _font(size: int) -> Any:
    try:
        return ImageFont.load_default(size)
    except (TypeError, ImportError, OSError):  # Pillow before 10.1, or built without FreeType
        return ImageFont.load_default()


def _number(draw: ImageDraw.ImageDraw, left: int, top: int, number: int, font: Any) -> None:
    if isinstance(font, ImageFont.FreeTypeFont):
        draw.text((left + NUMBER / 2, top + NUMBER / 2), str(number), fill=PAPER, font=font, anchor="mm")
    else:  # knows no anchors
        draw.text((left + 5, top + 3), str(number), fill=PAPER, font=font)


def _shown(text: str, font: Any) -> str:
    """What the font can write: that of old Pillows has Latin letters only."""
    return text if isinstance(font, ImageFont.FreeTypeFont) else text.encode("latin-1", "replace").decode("latin-1")


def _write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, colour: str, font: Any) -> None:
    draw.text(at, _shown(text, font), fill=colour, font=font)
