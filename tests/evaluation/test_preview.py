import base64
import io
import re

import numpy as np
from PIL import Image

from fivl_hf.cli.main import main
from fivl_hf.storage import write_dataset


def test_images_are_shown_and_nothing_is_asked(rows, tmp_path, capsys):
    write_dataset(tmp_path / "rows", {"test": rows[:3]}, title="S", description="D")
    command = ["evaluate", "--model", "none", "--dataset", str(tmp_path / "rows"), "--output", str(tmp_path / "out")]
    assert main([*command, "--preview", "2", "--conditions", "removed,kept,text-only"]) == 0
    assert (
        "preview.html shows 2 rows under original, removed, kept, text-only; nothing was asked"
        in capsys.readouterr().out
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["preview.html"]
    page = (tmp_path / "out" / "preview.html").read_text()
    assert page.count("text-only: no image") == 2
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(url)))) for url in re.findall(r"base64,([^\"]+)", page)
    ]
    assert len(pictures) == 2 * 3
    original, removed, kept = (picture.astype(int) for picture in pictures[:3])
    # What one hides, the other shows; JPEG blurs the border.
    dark = [(picture < 40).all(axis=-1) for picture in (original, removed, kept)]
    assert not dark[0].any()
    assert abs(dark[1].mean() + dark[2].mean() - 1) < 0.15
