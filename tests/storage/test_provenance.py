from fivl_hf import __version__
from fivl_hf.models import weights_fingerprint
from fivl_hf.storage import load_rows, rows_fingerprint
from fivl_hf.storage.provenance import provenance


def test_results_know_weights_rows_and_code(model, scenes_folder, tmp_path):
    model.save_pretrained(tmp_path)
    rows = load_rows(scenes_folder, "test")
    record = provenance(tmp_path, rows, dataset=scenes_folder, split="test")
    assert record == {
        "model": str(tmp_path),
        "weights_fingerprint": weights_fingerprint(tmp_path),
        "dataset": str(scenes_folder),
        "dataset_config": None,
        "split": "test",
        "rows_fingerprint": rows_fingerprint(rows),
        "fivl_hf_version": __version__,
    }
    fewer = provenance(tmp_path, rows.select(range(3)), dataset=scenes_folder, split="test[:3]")
    assert fewer["rows_fingerprint"] != record["rows_fingerprint"]
