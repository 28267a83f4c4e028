import re

import pyarrow.parquet as pq
import pytest
from browsers import needs_browser, opened, press, unreadable, until
from page_servers import served

from fivl_hf.show.row_browser import RowBrowser, browser_page
from fivl_hf.storage import write_dataset
from fivl_hf.storage.parquet_files import ParquetRows, split_files


def ids(shown):
    return re.findall(r'id="row-([^"]+)"', shown["html"])


@pytest.fixture
def folder(tmp_path, rows):
    hostile = {**rows[5], "id": "<script>alert(1)</script>", "source": "strange"}
    write_dataset(tmp_path / "set", {"train": [*rows[:5], hostile, *rows[6:]]}, title="S", description="D")
    return tmp_path / "set"


@pytest.fixture
def browser(folder):
    return RowBrowser(ParquetRows(split_files(folder, "train")), "set")


def test_the_first_rows_need_no_index(browser, rows):
    first = browser.act({})
    assert len(ids(first)) == 12
    assert ids(first)[0] == rows[0]["id"]
    assert "24 of 24 rows, page 1 of 2" in first["html"]
    assert "<script>" not in first["html"]
    browser.wait()
    second = browser.act({"page": 1})
    assert second["ready"]
    assert second["sources"] == ["scenes", "strange"]
    assert len(ids(second)) == 12
    # Beyond the last page is the last page.
    assert browser.act({"page": 99})["page"] == 1


def test_filters_and_sorts(browser, rows):
    browser.wait()
    found = browser.act({"source": "strange"})
    assert "1 of 24 rows" in found["html"]
    word = rows[0]["key_expressions"][0]["keywords"][-1]
    expected = [row["id"] for row in rows if any(word in each["keywords"] for each in row["key_expressions"])]
    assert ids(browser.act({"word": word}))[0] == expected[0]
    assert "No rows match" in browser.act({"search": "zebra"})["html"]
    for wrong in ({"score": "high"}, {"turns": "x"}, {"band": "huge"}, {"page": "x"}):
        assert 'role="alert"' in browser.act(wrong)["html"]
    assert browser_page(browser).title == "set"
    huge = browser.act({"page": 10**30, "turns": 10**30})
    assert "No rows match" in huge["html"]


def test_what_cannot_be_shown_or_indexed_is_said(folder, tmp_path):
    table = pq.read_table(split_files(folder, "train")[0])
    rows = table.to_pylist()
    rows[2]["images"] = [{"bytes": b"broken", "path": None}]
    rows[3]["key_expressions"][0]["start"] = 1
    pq.write_table(table.from_pylist(rows, schema=table.schema), tmp_path / "bad.parquet")
    browser = RowBrowser(ParquetRows([str(tmp_path / "bad.parquet")]), "bad")
    page = browser.act({})["html"]
    assert "Row 2 cannot be shown" in page
    assert "Row 3 cannot be shown" in page
    assert len(ids({"html": page})) == 10
    pq.write_table(table.drop_columns(["masks"]), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="column 'masks' is missing; found"):
        RowBrowser(ParquetRows([str(tmp_path / "other.parquet")]), "other")
    browser = RowBrowser(ParquetRows([str(tmp_path / "bad.parquet")]), "bad")
    browser.index.add = None  # what fails in the background
    browser.wait()
    assert "Indexing failed" in browser.act({})["html"]


@needs_browser
def test_search_by_keyboard(folder, tmp_path):
    with served(["show", folder, "--browse", "--port", 0], tmp_path) as (links, _), opened(links["rows"]) as driver:
        until(driver, lambda d: len(d.find_elements("css selector", ".card")) == 12)
        press(driver, "\ue014")
        until(driver, lambda d: "page 2 of 2" in d.find_element("css selector", ".pages").text)
        press(driver, "/script")
        until(driver, lambda d: "1 of 24 rows" in d.find_element("css selector", ".pages").text)
        assert unreadable(driver) == []
        assert "<script>alert(1)</script>" in driver.find_element("css selector", ".card").text
