"""The endpoint, against a server over loopback: retried, cached, stopped and gone on with."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipelines.rethink.cli import main
from pipelines.rethink.text.endpoint import Cache, Endpoint, Refused, UnfinishedError, key_of, said, seconds
from pipelines.rethink.text.files import Question

QUESTIONS = [Question("a", "Can a cat fly?", None), Question("b", "Can a bird fly?", None)]


class Server:
    """Answers from a list of what to do, then always rightly; keeps what it was asked."""

    def __init__(self):
        self.plan, self.asked, self.keys = [], [], []
        held = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                held.asked.append(body)
                held.keys.append(self.headers.get("Authorization"))
                act = held.plan.pop(0) if held.plan else "answer"
                if act == "drop":
                    # No answer at all: the connection ends.
                    self.close_connection = True
                    return
                content = {"choices": [{"message": {"content": f"Birds fly. {len(held.asked)} So the answer is yes."}}]}
                text = b"{}" if act == "nonsense" else json.dumps(content).encode()
                self.send_response(act if isinstance(act, int) else 200)
                if act == 429:
                    self.send_header("Retry-After", "0")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server():
    held = Server()
    yield held
    held.close()


def endpoint(server, tmp_path, **extra):
    return Endpoint(
        server.url,
        "m",
        str(tmp_path / "cache.jsonl"),
        **{"samples": 2, "wait_seconds": 0.0, "timeout_seconds": 5.0} | extra,
    )


def test_one_prompt_and_sample_is_one_call(server, tmp_path):
    first = list(endpoint(server, tmp_path).complete(QUESTIONS))
    assert len(server.asked) == 4
    assert [(own.question_id, own.sample) for own in first] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert server.asked[0]["messages"][0]["content"].endswith("Question: Can a cat fly?\nAnswer:")
    assert list(endpoint(server, tmp_path).complete(QUESTIONS)) == first
    assert len(server.asked) == 4
    list(endpoint(server, tmp_path, temperature=0.1).complete(QUESTIONS))
    assert len(server.asked) == 8


def test_passing_failures_are_tried_again(server, tmp_path):
    server.plan = [503, 429, "nonsense", "drop"]
    held = list(endpoint(server, tmp_path, samples=1).complete(QUESTIONS[:1]))
    assert held[0].text == "Birds fly. 5 So the answer is yes."


def test_a_stopped_run_goes_on_to_the_same_bytes(server, tmp_path):
    server.plan = ["answer", "answer", 500, 500]
    with pytest.raises(UnfinishedError, match="2 times; run the same command again"):
        list(endpoint(server, tmp_path, retries=1).complete(QUESTIONS))
    left = (tmp_path / "cache.jsonl").read_bytes()
    # A killed run leaves half a line.
    (tmp_path / "cache.jsonl").write_bytes(left + b'{"key": "x", "compl')
    server.asked.clear()
    list(endpoint(server, tmp_path).complete(QUESTIONS))
    assert len(server.asked) == 2
    content = (tmp_path / "cache.jsonl").read_bytes()
    assert content.startswith(left)
    assert len(content.splitlines()) == 4


def test_a_refusal_is_final_and_says_no_prompt(server, tmp_path):
    server.plan = [401]
    with pytest.raises(Refused, match="answered 401") as error:
        list(endpoint(server, tmp_path).complete(QUESTIONS))
    assert len(server.asked) == 1
    assert "cat" not in str(error.value)


def test_a_slow_server_is_not_waited_for(tmp_path):
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        held = Endpoint(
            f"http://127.0.0.1:{silent.getsockname()[1]}", "m", str(tmp_path / "c"), retries=0, timeout_seconds=0.2
        )
        with pytest.raises(UnfinishedError):
            list(held.complete(QUESTIONS))


def test_the_key_comes_from_the_environment_and_is_not_kept(server, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="MADE_UP: not set"):
        endpoint(server, tmp_path, key_variable="MADE_UP")
    monkeypatch.setenv("MADE_UP", "of-no-use")
    list(endpoint(server, tmp_path, key_variable="MADE_UP").complete(QUESTIONS[:1]))
    assert server.keys[0] == "Bearer of-no-use"
    assert "of-no-use" not in (tmp_path / "cache.jsonl").read_text()


def test_small_parts(tmp_path):
    assert seconds("7") == 7
    assert seconds("900") == 60
    assert seconds("Wed") == seconds(None) == 0
    assert said(b'{"choices": [{"message": {"content": null}}]}') == ""
    assert (
        key_of("m", "p", {"a": 1, "b": 2}, 0)
        == key_of("m", "p", {"b": 2, "a": 1}, 0)
        != key_of("m", "p", {"a": 1, "b": 2}, 1)
    )
    (tmp_path / "c").write_text("[]\n")
    with pytest.raises(ValueError, match="not of a cache"):
        Cache(tmp_path / "c")
    with pytest.raises(ValueError, match="http"):
        Endpoint("ftp://x", "m", str(tmp_path / "d"))
    with pytest.raises(ValueError, match="samples of 1"):
        Endpoint("http://x", "m", str(tmp_path / "d"), samples=0)


def test_the_verb_stops_with_75_and_goes_on(server, tmp_path, files, encoder_folder, capsys):
    questions, _ = files()
    config = tmp_path / "endpoint.yaml"
    arguments = {
        "base_url": server.url,
        "model": "m",
        "cache": str(tmp_path / "cache.jsonl"),
        "samples": 2,
        "retries": 0,
    }
    generator = {"class_path": "pipelines.rethink.text.endpoint.Endpoint", "init_args": arguments}
    config.write_text(json.dumps({"generator": generator}))
    words = ["text", "--questions", questions, "--facts", questions, "--config", config, "--encoder", encoder_folder]
    words = [*map(str, words), "--output", str(tmp_path / "out")]
    server.plan = ["answer", 503]
    assert main(words) == 75
    assert "go on" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(words) == 0
    assert len((tmp_path / "out" / "paths.jsonl").read_text().splitlines()) == 6
