import gradio as gr
import httpx2

from fivl_hf.show.gradio_pages import launch


def test_a_page_is_served_in_its_own_style():
    with gr.Blocks(analytics_enabled=False) as page:
        gr.Markdown("hello")
    _, address, _ = launch(page, prevent_thread_lock=True, quiet=True, css=".own-class { color: red }")
    try:
        assert "own-class" in httpx2.get(address).text
    finally:
        page.close(verbose=False)
