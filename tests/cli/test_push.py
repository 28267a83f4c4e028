import pytest

from fivl_hf.hub.push import dataset_upload, metric_upload


def test_dry_run_lists_and_sends_nothing(hub, fivl, scenes_folder):
    done = fivl("push", "dataset", scenes_folder, "me/scenes", "--dry-run", token="")
    assert done.returncode == 0
    for name, size in dataset_upload(scenes_folder, "me/scenes").sizes():
        assert f"{size:>14,}  {name}" in done.stdout
    assert not hub.requests


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token": ""}, "no Hub token: run `hf auth login`"),
        ({"token": "hf_wrong"}, "does not know your token"),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot be reached"),
    ],
)
def test_what_goes_wrong_is_said_in_one_sentence(fivl, options, message):
    done = fivl("push", "metric", "visual_reliance_score", "me", "--requirement", "fivl-hf", **options)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_space_installs_this_package_from_where_it_is(fivl):
    done = fivl("push", "metric", "head_alignment", "me")
    assert done.returncode == 2
    assert "the following arguments are required: --requirement" in done.stderr
    files = dict(metric_upload("head_alignment", "me", "fivl-hf @ git+https://example.org/fivl-hf").files)
    assert files["requirements.txt"].decode().strip() == "fivl-hf @ git+https://example.org/fivl-hf"
