from fivl_hf.files.installed import installed_folder


def test_a_clone_has_them_beside_the_package():
    for name, module in (("metrics", "head_alignment"), ("dataset_builders", "fivl_scenes")):
        assert (installed_folder(name) / module / f"{module}.py").is_file()
