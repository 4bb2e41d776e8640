"""What is shown, and how."""

import os
import re
import sys
import time

WIDTH = 100


class Screen:
    """Plain lines; colours and a progress line only on a terminal."""

    def __init__(self):
        self.is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.has_colours = self.is_terminal and not os.environ.get("NO_COLOR")
        self.has_blocks = (sys.stdout.encoding or "").lower().startswith("utf")
        self.started = time.monotonic()

    def paint(self, text, code):
        return f"\x1b[{code}m{text}\x1b[0m" if self.has_colours and text else text

    def bold(self, text):
        return self.paint(text, "1")

    def dim(self, text):
        return self.paint(text, "2")

    def green(self, text):
        return self.paint(text, "32")

    def red(self, text):
        return self.paint(text, "31")

    def line(self, text=""):
        self.progress("")
        print(text, flush=True)

    def heading(self, title, *why):
        self.line()
        self.line(self.bold(title))
        for sentence in why:
            self.line(f"   {sentence}")

    def clipped(self, text, indent="   "):
        """A line of another program; what is too wide is left out."""
        room = WIDTH - len(indent)
        self.line(indent + self.dim(text if len(text) <= room else text[: room - 3] + "..."))

    def wrapped(self, text, indent="   ", after=" ", code="2"):
        """A line of another program, broken after spaces or commas, so that all of it is there."""
        row, deeper = "", indent + " " * (len(text) - len(text.lstrip()) + 2)
        for piece in re.findall(f"[^{after}]*{after}?", text):
            if row and len(indent) + len(row) + len(piece.rstrip()) > WIDTH:
                self.line(indent + self.paint(row.rstrip(), code))
                row, indent = "", deeper
            row += piece
        self.line(indent + self.paint(row.rstrip(), code))

    def event(self, text):
        self.line(f"   {time.monotonic() - self.started:5.1f} s  {text}")

    def progress(self, text):
        if self.is_terminal:
            print(f"\r\x1b[K{self.dim(text)}" if text else "\r\x1b[K", end="", flush=True)

    def bar(self, count, total, columns=40):
        return ("█" if self.has_blocks else "#") * round(count * columns / total) if total else ""


screen = Screen()


class DemoError(Exception):
    """A sentence for the person who started the demo."""
