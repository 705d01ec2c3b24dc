"""Line and bar charts as SVG, for doc/performance.md. Nothing but text: no library is needed to make or to see them. They
bring their own white ground, so they can be read on a dark page too."""

import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 750, 380
LEFT, RIGHT, TOP, BOTTOM = 70, 230, 40, 50
# Colours that keep apart on white, also for those who do not see all of them; dashes help the rest.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
DASHES = ("", "6 3", "2 3", "8 3 2 3")


class Scale:
    """Numbers to pixels, linear or logarithmic."""

    def __init__(self, low, high, start, end, is_log):
        self.is_log = is_log
        self.low, self.high = self._of(low), self._of(high)
        self.start, self.end = start, end

    def _of(self, value):
        return math.log10(value) if self.is_log else value

    def __call__(self, value):
        span = self.high - self.low or 1
        return self.start + (self._of(value) - self.low) / span * (self.end - self.start)


def ticks(low, high, is_log):
    """Round numbers on an axis."""
    if is_log:
        return [10.0 ** n for n in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    step = 10 ** math.floor(math.log10((high - low) or 1))
    step = next(s for s in (step / 5, step / 2, step, step * 2) if (high - low) / s <= 6)
    return [n * step for n in range(math.floor(low / step), math.ceil(high / step) + 1)]


def lines(title, x_name, y_name, series, log_y=False, mark=None):
    """SVG text of {name: [(x, y)]}; x is logarithmic and its points are its ticks. mark: (y, text) of a line across. The first
    series lies above the others."""
    xs = sorted({x for points in series.values() for x, _ in points})
    ys = [y for points in series.values() for _, y in points] + ([mark[0]] if mark else [])
    if log_y:
        ys = [max(y, 0.1) for y in ys]
    y_ticks = ticks(min(ys) if log_y else 0, max(ys), log_y)
    x = Scale(xs[0], xs[-1], LEFT, WIDTH - RIGHT, True)
    y = Scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP, log_y)
    out = [*_sheet(HEIGHT), _text((LEFT + WIDTH - RIGHT) / 2, 22, title, size=14),
           _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_name),
           f'<g transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)">{_text(0, 0, y_name)}</g>']
    for t in y_ticks:
        out.append(_line(LEFT, y(t), WIDTH - RIGHT, y(t), "#dddddd"))
        out.append(_text(LEFT - 8, y(t) + 4, f"{t:.10g}", anchor="end"))
    for t in xs:
        out.append(_line(x(t), HEIGHT - BOTTOM, x(t), HEIGHT - BOTTOM + 5, "black"))
        out.append(_text(x(t), HEIGHT - BOTTOM + 18, f"{t:g}"))
    if mark:
        out.append(_line(LEFT, y(mark[0]), WIDTH - RIGHT, y(mark[0]), "#aa0000", "4 4"))
        out += _legend(len(series), mark[1], "#aa0000", "4 4", 1)
    out.append(f'<path d="M {LEFT} {TOP} V {HEIGHT - BOTTOM} H {WIDTH - RIGHT}" fill="none" stroke="black"/>')
    for n, (name, points) in reversed(list(enumerate(series.items()))):
        out += _series(n, name, [(x(a), y(max(b, 0.1) if log_y else b)) for a, b in sorted(points)])
    return "\n".join(out) + "\n</svg>\n"


def bars(title, groups):
    """SVG text of {group: [(name, value, least, most)]}: lying bars from zero, each with its number and its spread."""
    start, end, thick = 210, WIDTH - 90, 22
    height = TOP + sum(30 + thick * len(rows) for rows in groups.values()) + 15
    x_ticks = ticks(0, max(most for rows in groups.values() for *_, most in rows), False)
    x = Scale(0, x_ticks[-1], start, end, False)
    out = [*_sheet(height), _text(WIDTH / 2, 22, title, size=14)]
    for t in x_ticks:
        out += [_line(x(t), TOP, x(t), height - 25, "#dddddd"), _text(x(t), height - 10, f"{t:g}")]
    y = TOP
    for group, rows in groups.items():
        out.append(_text(10, y + 18, group, anchor="start"))
        y += 26
        for n, row in enumerate(rows):
            out += _bar(x, y + n * thick, thick - 6, COLOURS[n % len(COLOURS)], *row)
        y += thick * len(rows) + 4
    return "\n".join(out) + "\n</svg>\n"


def _bar(x, top, thick, colour, name, value, least, most):
    middle = top + thick / 2
    return [_text(x.start - 8, middle + 4, name, anchor="end"),
            f'<rect x="{x.start}" y="{top}" width="{x(value) - x.start:.1f}" height="{thick}" fill="{colour}"/>',
            _line(x(least), middle, x(most), middle, "black"),
            *(_line(x(at), middle - 4, x(at), middle + 4, "black") for at in (least, most)),
            _text(max(x(value), x(most)) + 6, middle + 4, f"{value:.3g}" if value < 100 else f"{value:.0f}", anchor="start")]


def _sheet(height):
    return [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>']


def _series(n, name, points):
    colour, dash, width = COLOURS[n % len(COLOURS)], DASHES[(n + 1) // 2 % len(DASHES)], 2 if n else 3
    path = " L ".join(f"{a:.1f} {b:.1f}" for a, b in points)
    return [f'<path d="M {path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dash}"/>',
            *(_point(n, a, b, colour) for a, b in points),
            *_legend(n, name, colour, dash, width), _point(n, WIDTH - RIGHT + 25, TOP + 10 + n * 20, colour)]


def _legend(n, name, colour, dash, width):
    level = TOP + 10 + n * 20
    return [_line(WIDTH - RIGHT + 12, level, WIDTH - RIGHT + 38, level, colour, dash, width),
            _text(WIDTH - RIGHT + 44, level + 4, name, anchor="start")]


def _point(n, x, y, colour):
    """A circle or a square or a triangle, by turns."""
    shape = ("M -4 0 a 4 4 0 1 0 8 0 a 4 4 0 1 0 -8 0 Z", "M -3.5 -3.5 h 7 v 7 h -7 Z", "M 0 -5 l 4.5 8 h -9 Z")[n % 3]
    return f'<path d="{shape}" transform="translate({x:.1f} {y:.1f})" fill="{colour}"/>'


def _line(x1, y1, x2, y2, colour, dash="", width=1):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" ' \
        f'stroke-width="{width}" stroke-dasharray="{dash}"/>'


def _text(x, y, text, anchor="middle", size=12, colour="black"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">' \
        f'{escape(text)}</text>'
