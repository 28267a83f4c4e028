"""Options of commands that serve a page."""

import argparse
from collections.abc import Mapping
from importlib.util import find_spec

from fivl_hf.cli.options import count

__all__ = ["add_page", "announce", "require_gradio"]


def add_page(parser: argparse.ArgumentParser) -> None:
    """Add the options of a page's server."""
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to serve at; with 0.0.0.0 other machines can open the page, by this machine's name",
    )
    parser.add_argument("--port", type=_port, default=7860, help="port to serve at; 0: any that is free")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")


def _port(text: str) -> int:
    """Read a port's number; raises ArgumentTypeError."""
    port = count(text)
    if port > 65_535:
        raise argparse.ArgumentTypeError(f"a port is at most 65535, got {text}")
    return port


def require_gradio() -> None:
    """Raise ImportError, with the command that installs it, if Gradio is missing."""
    if not find_spec("gradio"):
        raise ImportError("the page needs `pip install fivl-hf[ui]`")


def announce(links: Mapping[str, str], options: argparse.Namespace) -> None:
    """Print links by name, and open the first one if that is wanted."""
    for name, link in links.items():
        print(f"{name}: {link}", flush=True)
    if options.open:
        import webbrowser

        webbrowser.open(next(iter(links.values())))
