import ast

import pytest
import yaml

from fivl_hf.hub.explorer_space import explorer_upload


def test_a_space_loads_model_and_dataset_from_the_hub():
    upload = explorer_upload("me/look", "me/model", "me/rows", "fivl-hf @ git+https://x/y", compare="me/other")
    files = {name: data.decode() for name, data in upload.files}
    assert upload.repo_type == "space"
    assert files["requirements.txt"] == "fivl-hf[ui] @ git+https://x/y\n"
    front = yaml.safe_load(files["README.md"].split("---\n")[1])
    assert front["sdk"] == "gradio"
    assert (front["models"], front["datasets"]) == (["me/model", "me/other"], ["me/rows"])
    calls = [node for node in ast.walk(ast.parse(files["app.py"])) if isinstance(node, ast.Call)]
    opened = next(call for call in calls if call.func.id == "open_explorer")
    assert [ast.literal_eval(each) for each in opened.args] == [["me/model", "me/other"], "me/rows"]
    assert explorer_upload("me/look", "me/model", "me/rows", "fivl-hf").files[2][1] == b"fivl-hf[ui]\n"


@pytest.mark.parametrize("wrong", ["model", "me/a/b", "me/'+x+'", "../x"])
def test_ids_are_checked(wrong):
    with pytest.raises(ValueError, match="name|Hub"):
        explorer_upload("me/look", wrong, "me/rows", "fivl-hf")


def test_a_requirement_is_what_pip_takes():
    def needed(requirement):
        return explorer_upload("me/look", "me/model", "me/rows", requirement).files[2][1].decode()

    assert needed("fivl-hf==0.2") == "fivl-hf[ui]==0.2\n"
    assert needed("fivl-hf[peft]") == "fivl-hf[peft,ui]\n"
    with pytest.raises(ValueError, match="--requirement is what pip takes"):
        needed("git+https://x/y@main")
