"""Line charts as SVG, for doc/performance.md. Nothing but text: no library is needed to make or to see them."""

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
    """SVG text of {name: [(x, y)]}; x is logarithmic and its points are its ticks. mark: (y, text) of a line across."""
    xs = sorted({x for points in series.values() for x, _ in points})
    ys = [y for points in series.values() for _, y in points] + ([mark[0]] if mark else [])
    if log_y:
        ys = [max(y, 0.1) for y in ys]
    y_ticks = ticks(min(ys) if log_y else 0, max(ys), log_y)
    x = Scale(xs[0], xs[-1], LEFT, WIDTH - RIGHT, True)
    y = Scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP, log_y)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           _text((LEFT + WIDTH - RIGHT) / 2, 22, title, size=14),
           _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_name),
           f'<g transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)">{_text(0, 0, y_name)}</g>']
    for t in y_ticks:
        out.append(_line(LEFT, y(t), WIDTH - RIGHT, y(t), "#dddddd"))
        out.append(_text(LEFT - 8, y(t) + 4, f"{t:g}", anchor="end"))
    for t in xs:
        out.append(_line(x(t), HEIGHT - BOTTOM, x(t), HEIGHT - BOTTOM + 5, "black"))
        out.append(_text(x(t), HEIGHT - BOTTOM + 18, f"{t:g}"))
    if mark:
        out.append(_line(LEFT, y(mark[0]), WIDTH - RIGHT, y(mark[0]), "#aa0000", "4 4"))
        out.append(_text(LEFT + 4, y(mark[0]) - 5, mark[1], anchor="start", colour="#aa0000"))
    out.append(f'<path d="M {LEFT} {TOP} V {HEIGHT - BOTTOM} H {WIDTH - RIGHT}" fill="none" stroke="black"/>')
    for n, (name, points) in enumerate(series.items()):
        out += _series(n, name, [(x(a), y(max(b, 0.1) if log_y else b)) for a, b in sorted(points)])
    return "\n".join(out) + "\n</svg>\n"


def _series(n, name, points):
    colour, dash = COLOURS[n % len(COLOURS)], DASHES[n // 2 % len(DASHES)]
    path = " L ".join(f"{a:.1f} {b:.1f}" for a, b in points)
    level = TOP + 10 + n * 20
    return [f'<path d="M {path}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>',
            *(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in points),
            _line(WIDTH - RIGHT + 12, level, WIDTH - RIGHT + 38, level, colour, dash, 2),
            _text(WIDTH - RIGHT + 44, level + 4, name, anchor="start")]


def _line(x1, y1, x2, y2, colour, dash="", width=1):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" ' \
        f'stroke-width="{width}" stroke-dasharray="{dash}"/>'


def _text(x, y, text, anchor="middle", size=12, colour="black"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">' \
        f'{escape(text)}</text>'
