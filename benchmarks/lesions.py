"""Rendered skin lesions with known attributes: pictures in which a person sees what the words say.

SYNTHETIC. A lesion is described by six visible attributes, a site and a skin tone; `render` draws it.
"""

from __future__ import annotations

import numpy as np

SIDE = 96  # pixels; the frame shows 24 mm of skin
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "colour": ("red", "yellow", "blue", "purple", "black"),
    "shape": ("round", "linear", "annular"),
    "border": ("sharp", "blurred", "jagged"),
    "size": ("small", "medium", "large"),
    "count": ("single", "few", "many"),
    "surface": ("smooth", "raised", "scaly"),
}
SITES = ("trunk", "scalp", "palm")
SKIN_TONES = ("1", "2", "3", "4", "5", "6")

_SKIN = {
    "1": (246, 220, 203),
    "2": (233, 196, 170),
    "3": (214, 170, 136),
    "4": (181, 132, 98),
    "5": (140, 96, 68),
    "6": (96, 66, 50),
}
_COLOUR = {
    "red": (205, 40, 42),
    "yellow": (238, 208, 70),
    "blue": (52, 92, 190),
    "purple": (138, 52, 160),
    "black": (22, 18, 20),
}
_RADIUS = {"small": 6.0, "medium": 10.0, "large": 15.0}
_Y, _X = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)


def render(attributes: dict[str, str], site: str, skin_tone: str, seed: int) -> np.ndarray:
    """Draw one picture.

    attributes: one value of ATTRIBUTES per key; site in SITES; skin_tone in SKIN_TONES (Fitzpatrick I-VI as "1".."6").
    Returns uint8 [SIDE, SIDE, 3] (sRGB). The same arguments give the same bytes.
    """
    rng = np.random.default_rng(seed)
    canvas = _skin(site, skin_tone, rng)
    radius = _RADIUS[attributes["size"]] * rng.uniform(0.92, 1.08)
    for cy, cx in _centres(attributes["count"], radius, rng):
        distance = _distance(attributes["shape"], attributes["border"], cy, cx, radius, rng)
        _paint(canvas, distance, attributes, cy, cx, radius, rng)
    canvas += rng.normal(0, 2.5, canvas.shape).astype(np.float32)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _skin(site: str, skin_tone: str, rng: np.random.Generator) -> np.ndarray:
    base = np.array(_SKIN[skin_tone], np.float32) + rng.uniform(-6, 6) + rng.uniform(-2, 2, 3).astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    light = ((_X - SIDE / 2) * np.cos(angle) + (_Y - SIDE / 2) * np.sin(angle)) / SIDE
    canvas = base * (1 + 0.08 * light)[..., None].astype(np.float32)
    if site == "palm":  # friction ridges
        angle = rng.uniform(0, np.pi)
        wave = np.sin((_X * np.cos(angle) + _Y * np.sin(angle) + 2 * np.sin(_Y / 17)) * 2 * np.pi / 4.5)
        canvas *= (1 + 0.05 * wave)[..., None].astype(np.float32)
    elif site == "scalp":  # hairs
        for _ in range(26):
            y0, x0 = rng.uniform(0, SIDE, 2)
            slope, bend = rng.normal(0.35, 0.25), rng.normal(0, 0.004)
            hair = np.abs(_Y - (y0 + slope * (_X - x0) + bend * (_X - x0) ** 2))
            part = (hair < 0.8) & (np.abs(_X - x0) < rng.uniform(8, 22))
            canvas[part] *= 0.42
    return canvas.astype(np.float32)


def _centres(count: str, radius: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    middle = SIDE / 2
    if count == "single":
        return [(middle + rng.uniform(-6, 6), middle + rng.uniform(-6, 6))]
    cell = SIDE / 3
    cells = [(i, j) for i in range(3) for j in range(3)]
    number = int(rng.integers(2, 4)) if count == "few" else int(rng.integers(6, 8))
    room = max(0.0, cell / 2 - radius)
    chosen = rng.permutation(9)[:number]
    return [
        ((cells[k][0] + 0.5) * cell + rng.uniform(-room, room), (cells[k][1] + 0.5) * cell + rng.uniform(-room, room))
        for k in chosen
    ]


def _distance(shape: str, border: str, cy: float, cx: float, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Signed distance to the lesion's outline in pixels, negative inside."""
    y, x = _Y - cy, _X - cx
    turn = rng.uniform(0, np.pi)
    u, v = x * np.cos(turn) + y * np.sin(turn), -x * np.sin(turn) + y * np.cos(turn)
    if shape == "linear":
        half = radius * 0.85
        distance = np.hypot(np.maximum(np.abs(u) - half, 0), v) - radius * 0.36
    elif shape == "annular":
        distance = np.abs(np.hypot(u, v) - radius * 0.78) - radius * 0.26
    else:
        distance = np.hypot(u, v) - radius * 0.9
    if border == "jagged":
        angle = np.arctan2(v, u)
        teeth = sum(np.abs(((angle * n / (2 * np.pi) + rng.uniform()) % 1) - 0.5) * 4 - 1 for n in (7, 11)) / 2
        distance = distance + teeth * radius * (0.2 if shape == "round" else 0.14)
    return distance


def _paint(
    canvas: np.ndarray,
    distance: np.ndarray,
    attributes: dict[str, str],
    cy: float,
    cx: float,
    radius: float,
    rng: np.random.Generator,
) -> None:
    softness = max(2.2, radius * 0.28) if attributes["border"] == "blurred" else 0.45
    alpha = 1 / (1 + np.exp(np.clip(distance / softness, -30, 30)))
    if attributes["surface"] == "raised":  # the shadow falls to the lower right
        moved = np.pad(distance, ((3, 0), (3, 0)), mode="edge")[:SIDE, :SIDE]
        shadow = 1 / (1 + np.exp(np.clip(moved / 1.2, -30, 30)))
        canvas *= (1 - 0.45 * shadow * (1 - alpha))[..., None]
    colour = np.array(_COLOUR[attributes["colour"]], np.float32) + rng.uniform(-10, 10, 3).astype(np.float32)
    layer = np.broadcast_to(colour, canvas.shape).copy()
    if attributes["surface"] == "raised":  # light from the upper left
        dome = np.exp(-(((_X - cx + radius * 0.35) ** 2 + (_Y - cy + radius * 0.35) ** 2) / (2 * (radius * 0.42) ** 2)))
        layer += (140 * dome)[..., None]
    elif attributes["surface"] == "scaly":  # white flakes
        coarse = rng.random((SIDE // 3, SIDE // 3)).repeat(3, 0).repeat(3, 1)
        flakes = (coarse > 0.62)[..., None]
        layer = np.where(flakes, layer * 0.3 + 0.7 * np.array((236, 232, 224), np.float32), layer)
    canvas *= (1 - alpha)[..., None]
    canvas += layer * alpha[..., None].astype(np.float32)
