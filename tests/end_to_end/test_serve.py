"""``fivl augment`` against a real OpenAI-compatible server: ``transformers serve`` with a tiny random model."""

import os
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from fivl_hf.cli.main import main
from fivl_hf.llm.answers import AnswerCache
from fivl_hf.scenes.model import scene_processor


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The URL of a served model that answers nonsense, and the model's name."""
    folder = tmp_path_factory.mktemp("served") / "llm"
    tokenizer = scene_processor().tokenizer
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['content'] }} {% endfor %}{% if add_generation_prompt %}it is {% endif %}"
    )
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=4096,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder)]
    log = (folder.parent / "log.txt").open("w")
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
        stdout=log,
        stderr=subprocess.STDOUT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    _wait_for(f"http://127.0.0.1:{port}/health", process)
    yield f"http://127.0.0.1:{port}/v1", str(folder)
    process.terminate()
    process.wait()
    log.close()


def _wait_for(url, process):
    for _ in range(600):
        assert process.poll() is None, "transformers serve ended"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("transformers serve did not start")


def test_nonsense_is_survived_and_every_reply_is_kept_with_its_reason(server, tmp_path, capsys):
    url, model = server
    command = ["augment", "--input", "scenes", "--limit", "6", "--grounder", "scenes", "--workers", "1"]
    command += ["--output", str(tmp_path / "fivl"), "--model", model, "--base-url", url, "--timeout", "60"]
    assert main(command) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("fivl: none of 6 samples became a row: 6 × the language model's reply cannot be used (the ")
    work = tmp_path / "fivl.work"
    with closing(sqlite3.connect(work / "answers.sqlite")) as answers:
        problems = Counter(problem for (problem,) in answers.execute("SELECT problem FROM unusable"))
    assert set(problems) <= {"the reply is not valid JSON", "the reply is cut off", "the reply is empty"}
    # Each was asked for twice.
    assert problems.total() >= 12
    assert problems.total() % 2 == 0
    assert len(AnswerCache(work / "answers.sqlite")) == 0
