"""Images for the stand-in: real JPEG and PNG files, different for every seed, that visibly follow a map."""

import random
from io import BytesIO

from PIL import Image, ImageDraw, ImageOps


def scene(
    width: int, height: int, seed: int, control: Image.Image | None = None, kind: str = "base", sample: int | None = None
) -> Image.Image:
    """A flat scene; with an edge map, its lines in ink on paper; with a depth map, its distances in colours."""
    dice = random.Random(seed)
    sky, ground, accent = (tuple(dice.randrange(low, low + 110) for _ in range(3)) for low in (140, 60, 20))
    if control is not None:
        grey = control.convert("L").resize((width, height))
        if kind == "canny":
            return ImageOps.colorize(grey, black=sky, white=accent)
        return ImageOps.colorize(grey, black=sky, mid=ground, white=accent)
    image = Image.new("RGB", (width, height), sky)
    pen = ImageDraw.Draw(image)
    horizon = int(height * dice.uniform(0.5, 0.7))
    pen.rectangle((0, horizon, width, height), fill=ground)
    radius, middle = height // 10, dice.randrange(width // 5, width * 4 // 5)
    pen.ellipse((middle - radius, radius, middle + radius, 3 * radius), fill=(250, 225, 120))
    left = dice.randrange(width // 2)
    pen.rectangle((left, horizon - height // 4, left + width // 3, horizon + height // 12), fill=accent)
    pen.polygon(
        [(left - 20, horizon - height // 4), (left + width // 6, horizon - height // 2), (left + width // 3 + 20, horizon - height // 4)],
        fill=ground,
    )
    if sample is not None:
        pen.text((width // 20, height // 20), f"sample image {sample}", fill=accent, font_size=height // 16)
    return image


def encoded(image: Image.Image, kind: str = "JPEG") -> bytes:
    file = BytesIO()
    image.save(file, kind)
    return file.getvalue()
