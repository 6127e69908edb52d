"""Make docs/images/result.jpg, the README's picture, from what `make demo` left: tools/readme_picture.py andon-demo."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import andon
from andon.runtime.picture import overlay_of

SHOWN = ("good", "missing_bolt", "displaced_clip", "rust")
WIDTH, HEIGHT, GAP, TEXT = 384, 288, 8, 46
COLOURS = {"pass": "#1b7f4b", "review": "#9a6a00", "fail": "#b3261e"}
OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "images" / "result.jpg"


def main() -> None:
    demo = Path(sys.argv[1] if len(sys.argv) > 1 else "andon-demo")
    predictor = andon.load(demo / "bracket.andon")
    test = next(demo.glob("line_*")) / "bracket_line" / "test"
    sheet = Image.new("RGB", (len(SHOWN) * (WIDTH + GAP) - GAP, 2 * HEIGHT + GAP + TEXT), "white")
    pen = ImageDraw.Draw(sheet)
    for column, kind in enumerate(SHOWN):
        path = sorted((test / kind).glob("*.png"))[0]
        verdict = predictor.inspect(path)
        left = column * (WIDTH + GAP)
        for row, pixels in enumerate(overlay_of(predictor, path, verdict)):
            sheet.paste(Image.fromarray(pixels).resize((WIDTH, HEIGHT)), (left, row * (HEIGHT + GAP)))
        words = f"{verdict.decision.upper()}  {verdict.score:.3f}"
        top = 2 * HEIGHT + GAP + 4
        pen.text((left + 4, top), words, COLOURS[verdict.decision], ImageFont.load_default(20))
        pen.text((left + 4, top + 24), verdict.sentence.split(":")[0], "#333333", ImageFont.load_default(13))
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(OUTPUT, quality=82)
    print(OUTPUT)


if __name__ == "__main__":
    main()
