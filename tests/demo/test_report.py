import re


def test_report_is_self_contained(demo):
    page = (demo / "report.html").read_text()
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page)
    assert page.count("data:image/png") > 20
    assert 'name="viewport"' in page
