"""A clip to measure on."""

from pathlib import Path

_RATE, _WIDTH, _HEIGHT = 15, 640, 360


def draw_clip(path: Path, *, duration_seconds: int = 12) -> None:
    """Write an H.264 clip: a ball crosses the picture, and the background changes halfway.

    Args:
        path: where to; the container follows from its ending.
        duration_seconds: length, at 15 frames of 640 x 360 a second.
    """
    import av
    from PIL import Image, ImageDraw

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=_RATE)
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        num_frames = duration_seconds * _RATE
        for number in range(num_frames):
            second_half = number >= num_frames // 2
            picture = Image.new("RGB", (_WIDTH, _HEIGHT), "steelblue" if second_half else "wheat")
            draw = ImageDraw.Draw(picture)
            draw.rectangle((40, 220, 200, 320), fill="seagreen")
            x = 60 + number * (_WIDTH - 160) // num_frames
            draw.ellipse((x, 60, x + 100, 160), fill="firebrick")
            draw.text((_WIDTH - 120, _HEIGHT - 50), f"{number // _RATE:02d}", "black", font_size=32)
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
