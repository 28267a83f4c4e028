from PIL import Image

from fivl_hf.augment.scenes import scene_rows
from fivl_hf.cli.main import main
from fivl_hf.storage import write_dataset


def test_command_draws_pages_and_images(tmp_path, capsys):
    write_dataset(tmp_path / "set", {"test": scene_rows("test", 4)}, title="S", description="D")
    for name, options in (("a.html", ["--sample", "2"]), ("b.png", ["--row", "3"]), ("c.jpg", ["--id", "nobody"])):
        status = main(["show", str(tmp_path / "set"), "--output", str(tmp_path / name), *options])
        assert status == (1 if name == "c.jpg" else 0)
    assert "no row has the id 'nobody'; ids look like 'scene-0-test-0'" in capsys.readouterr().err
    assert (tmp_path / "a.html").read_text().count('<div class="card" id="row-') == 2
    with Image.open(tmp_path / "b.png") as image:
        assert image.width > 700
    assert main(["show", str(tmp_path / "set"), "--output", str(tmp_path / "d.txt")]) == 1
