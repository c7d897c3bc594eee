"""The ground that local pages stand on: one page, its state, what it may do; seen by nobody but who started it.

A page is three files in this folder, `NAME.html` (what stands inside <main>), `NAME.js` and `NAME.css` (both may be missing), and
two things in Python: `state()`, what the page shows, and `actions`, what it may do, each a function of one JSON object that
returns one. It may raise `Refused("...")`: the page shows the sentence. One call runs at a time.

    from autograder.pages.server import Page, Refused, serve

    def save(body: dict) -> dict:
        if body.get("points") not in (0, 1, 2):
            raise Refused(f"points: expected 0, 1 or 2, received {body.get('points')!r}")
        store.write(body)                                   # at once: what the browser was told is saved, is saved
        return {"left": store.left()}

    page = Page("rubric", title="Marking", state=lambda: store.as_json(), actions={"save": save})
    serve(page)                                             # prints the address; Ctrl-C (or `page.finish()`) ends it

In NAME.js the object `climb` (page.js) is there already:

    const state = await climb.state();                      // what `state()` returned
    const answer = await climb.post("save", {points: 2});   // an action; rejects with the sentence of `Refused`
    climb.autosave("save", () => ({...}));                  // call it at every change: saves 400 ms after the last one, tries
                                                            // again while the server does not answer; a corner says how it went
    climb.keys({"1": first, " ": tie, u: undo});            // single keys, not while typing in a field
    climb.flush();                                          // saves now what still waits; resolves when it is saved

Nobody else gets in: it listens on 127.0.0.1 alone, every address begins with a random token, a request with another Host (a
name that somebody has pointed here) or from another page (Origin, Sec-Fetch-Site) is refused, posts must be JSON and small, and
the page may load nothing from anywhere but here.
"""

from __future__ import annotations

import contextlib
import html
import json
import secrets
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping

HERE = Path(__file__).resolve().parent
LARGEST_POST = 1 << 20
"Bytes of one post: a written answer with its marks is a thousandth of that."
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
POLICY += "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class Refused(Exception):
    """What an action will not do, in one sentence for the person at the page."""


@dataclass
class Page:
    """One page: the name of its files in this folder, its title, what it shows and what it may do."""

    name: str
    title: str
    state: Callable[[], Any]
    actions: Mapping[str, Callable[[dict], Any]] = field(default_factory=dict)
    finished: threading.Event = field(default_factory=threading.Event)

    def finish(self) -> None:
        """Ends `serve` after the answer that is being given."""
        self.finished.set()


@dataclass(frozen=True)
class Address:
    """Where a page is."""

    port: int
    token: str
    ticket: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{self.token}/"

    @property
    def url_once(self) -> str:
        """Leads to the page the first time that somebody asks: for where others may look on, as a program's arguments."""
        return f"http://127.0.0.1:{self.port}/{self.ticket}/"


def require_flask() -> None:
    """Raises UsageProblem, which says what to install, where flask is missing."""
    try:
        import flask  # noqa: F401
    except ModuleNotFoundError:
        from autograder.cli import UsageProblem

        raise UsageProblem("a local page needs flask, which is not installed: pip install 'climb-course[pages]'") from None


def serve(page: Page, *, port: int = 0, open_browser: bool = False, say: Callable[[str], None] = print) -> None:
    """Shows a page until Ctrl-C, which is how one usually leaves it, or until `page.finish()`. port 0: any free one."""
    with running(page, port=port) as address:
        say(f"{page.title}: {address.url}\nOpen it in your browser; Ctrl-C here ends it.")
        if open_browser:
            import webbrowser

            webbrowser.open(address.url_once)
        with contextlib.suppress(KeyboardInterrupt):
            while not page.finished.wait(0.2):  # a wait without an end would not hear Ctrl-C on every system
                pass


@contextlib.contextmanager
def running(page: Page, *, port: int = 0) -> Iterator[Address]:
    """The page's server, in a thread of its own, for as long as the block lasts."""
    require_flask()
    from autograder.cli import UsageProblem
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Silent(WSGIRequestHandler):
        def log(self, *_: Any) -> None:
            """The terminal belongs to whoever started the page."""

    token, ticket = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
    try:
        with _quiet_exit():
            server = make_server("127.0.0.1", port, application(page, token, ticket), threaded=True, request_handler=Silent)
    except OSError as error:
        raise UsageProblem(f"port {port} cannot be used: {error.strerror or error}; name another one, or none") from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield Address(server.server_port, token, ticket)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


@contextlib.contextmanager
def _quiet_exit() -> Iterator[None]:
    """The library prints its advice and exits where a port is taken; here that is an OSError like any other."""
    import io

    words = io.StringIO()
    try:
        with contextlib.redirect_stderr(words):
            yield
    except SystemExit:
        raise OSError(words.getvalue().strip().split("\n")[0] or "it is taken") from None


def application(page: Page, token: str, ticket: str) -> Any:
    """The page as a WSGI application. ticket: leads to the page once."""
    from flask import Flask, Response, abort, redirect, request

    app, one_at_a_time = Flask(__name__, static_folder=None), threading.Lock()
    tickets = {ticket}
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_POST

    @app.before_request
    def from_here() -> Response | None:
        host = request.headers.get("Host", "")
        port = request.environ.get("SERVER_PORT", "")
        if host not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            abort(403, "this page answers to 127.0.0.1 alone")
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            abort(403, "asked for by another page")
        if request.method == "POST" and request.headers.get("Origin", f"http://{host}") != f"http://{host}":
            abort(403, "posted by another page")
        given = (request.view_args or {}).get("given", "")
        with one_at_a_time:
            if request.endpoint == "whole" and given in tickets:
                tickets.remove(given)
                return redirect(f"/{token}/")
        if not secrets.compare_digest(given.encode(), token.encode()):
            abort(404)
        return None

    @app.after_request
    def closed(answer: Response) -> Response:
        answer.headers["Content-Security-Policy"] = POLICY
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.headers["Referrer-Policy"] = "no-referrer"
        answer.headers["Cache-Control"] = "no-store"
        return answer

    @app.get("/<given>/")
    def whole(given: str) -> Response:
        return Response(_document(page), mimetype="text/html")

    @app.get("/<given>/<file>")
    def part(given: str, file: str) -> Response:
        kinds = {"css": "text/css", "js": "text/javascript"}
        stem, _, ending = file.rpartition(".")
        place = HERE / file
        if stem not in ("page", page.name) or ending not in kinds or not place.is_file():
            abort(404)
        return Response(place.read_text(encoding="utf-8"), mimetype=kinds[ending])

    @app.get("/<given>/state")
    def state(given: str) -> Response:
        with one_at_a_time:
            return _json(page.state())

    @app.post("/<given>/do/<action>")
    def act(given: str, action: str) -> Response:
        body = request.get_json(silent=True) if request.is_json else None
        if not isinstance(body, dict):
            return _json({"error": "expected a JSON object"}, 400)
        if action not in page.actions:
            return _json({"error": f"there is no action `{action}` here"}, 404)
        with one_at_a_time:
            try:
                return _json(page.actions[action](body))
            except Refused as refused:
                return _json({"error": str(refused)}, 400)
            except OSError as error:  # a full disk: the page keeps what it has and tries again
                return _json({"error": f"not saved: {error.strerror or error}"}, 503)

    def _json(value: Any, status: int = 200) -> Response:
        return Response(json.dumps(value, ensure_ascii=False), status=status, mimetype="application/json")

    return app


def _document(page: Page) -> str:
    own = [f'<link rel="stylesheet" href="{page.name}.css">'] if (HERE / f"{page.name}.css").is_file() else []
    own += [f'<script src="{page.name}.js" defer></script>'] if (HERE / f"{page.name}.js").is_file() else []
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(page.title)}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="page.css">
<script src="page.js" defer></script>
{chr(10).join(own)}
</head>
<body>
<main>
{(HERE / f"{page.name}.html").read_text(encoding="utf-8")}
</main>
<p id="climb-status" role="status" aria-live="polite"></p>
</body>
</html>
"""
