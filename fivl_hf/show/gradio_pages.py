"""Serving Gradio pages in this project's colours."""

import socket
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import gradio as gr

from fivl_hf.show.pages import template_text

__all__ = ["launch", "page_style", "scripted_page", "serve"]


def launch(page: gr.Blocks, **options: Any) -> Any:
    """Serve the page in colours of which every pair has a contrast of at least 4.5 : 1."""
    theme = gr.themes.Default(primary_hue="blue").set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        body_text_color_subdued="*neutral_600",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
    )
    return page.launch(theme=theme, **options)


def scripted_page(title: str, name: str, top: str, script: str, act: Callable[[Any], Any]) -> gr.Blocks:
    """Return a page of two parts: one that stays, and one that a script shows by asking the server.

    Args:
        name: of the page, by which its style sheet knows it (``.fivl-NAME``).
        top: HTML of the part that stays; its element has the id ``fivl-top``.
        script: of the other part.
        act: what the script calls as ``server.act(request)``.
    """

    # Gradio marks the functions that scripts may call, which a bound method does not allow.
    def act_on(request: Any) -> Any:
        return act(request)

    act_on.__name__ = "act"
    options: dict[str, Any] = {"elem_classes": f"fivl-page fivl-{name}", "padding": False}
    with gr.Blocks(title=title, analytics_enabled=False, fill_width=True) as page:
        gr.HTML(top, elem_id="fivl-top", js_on_load=None, **options)
        gr.HTML("", elem_id="fivl-shown", js_on_load=script, server_functions=[act_on], **options)
    return page


def page_style(name: str) -> str:
    """Return a page's style sheet, a template of this package, behind what all pages share."""
    return template_text("gradio.css") + template_text(name)


def serve(page: gr.Blocks, style: str, *, host: str, port: int, on_ready: Callable[[str], object]) -> None:
    """Serve a page until the process is interrupted.

    Args:
        style: name of the page's own style sheet (:func:`page_style`).
        host: address to listen at; of one that means all addresses, the page's address has the machine's name.
        port: 0 for any that is free.
        on_ready: called with the page's address once it can be opened.

    Raises:
        OSError: the port is taken.
    """
    options: dict[str, Any] = {
        "server_name": host,
        "server_port": port or None,
        "share": False,
        "footer_links": [],
        "css": page_style(style),
    }
    try:
        _, address, _ = launch(page, prevent_thread_lock=True, quiet=True, show_error=True, **options)
    except OSError as error:
        if not port:
            raise
        raise OSError(
            f"port {port} of {host} cannot be used: give another --port, or 0 for any that is free"
        ) from error
    if host in ("0.0.0.0", "::"):
        address = f"http://{socket.getfqdn()}:{urlsplit(address).port}/"
    on_ready(address)
    try:
        threading.Event().wait()
    finally:
        page.close(verbose=False)
