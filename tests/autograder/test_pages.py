"""The ground of the local pages: what it shows, what it keeps, and whom it lets in."""

import contextlib
import http.client
import json
import socket

import pytest

pytest.importorskip("flask", reason="no flask here (pip install 'climb-course[pages]')")

from autograder.cli import UsageProblem  # noqa: E402
from autograder.pages import server  # noqa: E402
from autograder.pages.server import Page, Refused  # noqa: E402


def page(**more):
    """A page with the files of the labelling page, a state of its own, and three actions."""
    kept = []

    def save(body):
        if "text" not in body:
            raise Refused("text: expected one, received none")
        kept.append(body["text"])
        return {"kept": kept}

    def full(body):
        raise OSError(28, "No space left on device")

    made = Page("label", title="A <page>", state=lambda: {"kept": kept}, actions={"save": save, "full": full}, **more)
    made.kept = kept
    return made


@pytest.fixture
def running():
    made = page()
    with server.running(made) as address:
        yield made, address


def asked(address, path, body=None, **headers):
    """(status, text, headers) of a request to this server, with exactly these headers besides the usual ones."""
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=10)
    method = "GET" if body is None else "POST"
    if body is not None:
        headers = {"Content-Type": "application/json", **headers}
        body = body if isinstance(body, (str, bytes)) else json.dumps(body)
    connection.request(method, f"/{address.token}/{path}", body=body, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text, answer.headers


def test_shows_its_page_its_state_and_its_own_files_alone(running):
    _, address = running
    status, text, headers = asked(address, "")
    assert status == 200 and "<title>A &lt;page&gt;</title>" in text and "label.js" in text
    assert "default-src 'none'" in headers["Content-Security-Policy"] and headers["Cache-Control"] == "no-store"
    assert json.loads(asked(address, "state")[1]) == {"kept": []}
    for file in ("page.js", "page.css", "label.js", "label.css"):
        assert asked(address, file)[0] == 200
    for other in ("server.py", "label.html", "..%2Fcli.py", "page.py", "nothing.js"):
        assert asked(address, other)[0] == 404


def test_an_action_is_done_once_and_a_refusal_is_said_in_its_words(running):
    made, address = running
    assert asked(address, "do/save", {"text": "ä"})[0] == 200 and made.kept == ["ä"]
    status, text, _ = asked(address, "do/save", {})
    assert status == 400 and json.loads(text) == {"error": "text: expected one, received none"}
    assert asked(address, "do/nothing", {})[0] == 404
    for bad in ("[1]", "no json", "3"):
        assert asked(address, "do/save", bad)[0] == 400
    status, text, _ = asked(address, "do/full", {})  # the page keeps what it has and asks again later
    assert status == 503 and "No space left" in json.loads(text)["error"]
    assert made.kept == ["ä"]


def test_nobody_else_gets_in(running):
    made, address = running
    good = {"text": "mine"}
    for headers in ({"Host": "evil.example"}, {"Host": f"evil.example:{address.port}"}, {"Origin": "http://evil.example"},
                    {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}):  # fmt: skip
        assert asked(address, "do/save", good, **headers)[0] == 403
        if "Origin" not in headers:
            assert asked(address, "state", **headers)[0] == 403
    assert asked(server.Address(address.port, "guess"), "state")[0] == 404
    assert asked(address, "do/save", json.dumps(good), **{"Content-Type": "text/plain"})[0] == 400  # what a form can send unasked
    assert asked(address, "do/save", json.dumps({"text": "x" * server.LARGEST_POST}))[0] in (400, 413)
    assert made.kept == []
    own = {"Origin": f"http://127.0.0.1:{address.port}", "Sec-Fetch-Site": "same-origin"}
    assert asked(address, "do/save", good, **own)[0] == 200 and made.kept == ["mine"]


def test_a_ticket_leads_to_the_page_once(running):
    """A browser is started with the ticket, which anybody on the machine may read in its arguments; the token is not there."""
    _, address = running
    ticket = server.Address(address.port, address.ticket)
    assert address.token not in address.url_once and address.ticket in address.url_once
    assert asked(ticket, "state")[0] == 404 and asked(ticket, "", **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    status, _, headers = asked(ticket, "")
    assert status == 302 and headers["Location"] == f"/{address.token}/"
    assert asked(ticket, "")[0] == 404


def test_listens_on_loopback_alone(running):
    _, address = running
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        with contextlib.suppress(OSError):  # no network: nothing to listen on besides
            probe.connect(("192.0.2.1", 9))
        own = probe.getsockname()[0]
    if own not in ("0.0.0.0", "127.0.0.1"):
        with pytest.raises(OSError):
            socket.create_connection((own, address.port), timeout=2).close()


def test_tokens_are_not_used_twice():
    with server.running(page()) as one, server.running(page()) as two:
        assert one.token != two.token and len(one.token) >= 20
        assert asked(server.Address(two.port, one.token), "state")[0] == 404


def test_a_port_that_is_taken_is_said_in_a_line():
    with server.running(page()) as address:
        with pytest.raises(UsageProblem, match=f"port {address.port} cannot be used: .*in use"):
            with server.running(page(), port=address.port):
                pass


def test_without_flask_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "flask", None)
    with pytest.raises(UsageProblem, match=r"needs flask.*pip install 'climb-course\[pages\]'"):
        with server.running(page()):
            pass


def test_serve_ends_when_the_page_is_finished():
    made, said = page(), []
    made.finish()
    server.serve(made, say=said.append)
    assert "http://127.0.0.1:" in said[0] and "Ctrl-C" in said[0]


def test_ctrl_c_is_an_end_like_any_other(monkeypatch):
    made = page()

    def interrupted(timeout=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(made.finished, "wait", interrupted)
    server.serve(made, say=lambda line: None)


@pytest.mark.slow
def test_saving_by_itself_waits_for_a_server_that_is_away(browser):
    """What is typed is saved a moment later; where the server does not answer, the page says so and tries again until it does."""
    made = page()
    with server.running(made) as address:
        seen = browser.open(address.url)
        seen.route("**/do/save", lambda route: route.abort())
        seen.locator("#climb-status").wait_for(state="attached")
        handle = "() => { let text = 'first'; climb.autosave('save', () => ({text})); text = 'second'; }"
        seen.evaluate(handle)
        from playwright.sync_api import expect

        expect(seen.locator("#climb-status")).to_contain_text("not saved", timeout=5000)
        assert made.kept == []
        seen.unroute("**/do/save")
        expect(seen.locator("#climb-status")).to_have_text("saved", timeout=8000)
        assert made.kept == ["second"]
        assert all(url.startswith((address.url, "data:")) for url in seen.asked)
