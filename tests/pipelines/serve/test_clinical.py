"""The server as a ward's systems meet it: over loopback with a token, by its own description, and as a page."""

import json
import re
import shutil

import httpx
import jsonschema
import pytest

from ehr.outcomes.registry import Outcome, Registry
from pipelines.serve import page
from pipelines.serve.alerts import Alert, load
from tests import docs
from tests.chain import command
from tests.pipelines.serve import hooks
from tests.pipelines.serve.browser import Browser
from tests.pipelines.serve.bundles import bundle, rows
from tests.pipelines.serve.clients import answered, ask, clinic, close
from tests.pipelines.serve.servers import serving

TOKEN = "a-token-of-this-test-alone"
PLANTED = "zzplanted"
MONTH = {"horizons_days": (30,)}


@pytest.fixture(scope="module")
def made(chain, tmp_path_factory):
    held = {("failure", 1095): Alert(0.001, "warning")}
    made = clinic(chain.release, tmp_path_factory.mktemp("clinical") / "audit.jsonl", held)
    yield made
    close(made)


def test_a_cds_client_over_loopback(chain, tmp_path):
    (tmp_path / "tokens").write_text(f"record {TOKEN}\n")
    (tmp_path / "key").write_bytes(b"0123456789abcdef")
    (tmp_path / "thresholds.yaml").write_text("failure: {1095: 0.000001}\n")
    settings = ("--token-file", tmp_path / "tokens", "--thresholds", tmp_path / "thresholds.yaml")
    audit = ("--audit", tmp_path / "audit.jsonl", "--audit-key", tmp_path / "key")
    with (
        serving(chain.release, tmp_path, *settings, *audit) as served,
        httpx.Client(base_url=served.url, timeout=60, headers={"Authorization": f"Bearer {TOKEN}"}) as client,
    ):
        offered = client.get("/cds-services").json()["services"]
        name = next(held["id"] for held in offered if held["hook"] == "patient-view")
        content = hooks.call(bundle(7, name=PLANTED))
        response = client.post(f"/cds-services/{name}", json=content)
        assert response.status_code == 200
        jsonschema.validate(response.json(), hooks.RESPONSE)
        (card,) = response.json()["cards"]
        assert client.post(f"/cds-services/{name}/feedback", json=hooks.response(card["uuid"])).status_code == 200
        del content["prefetch"]["conditions"]
        assert client.post(f"/cds-services/{name}", json=content).status_code == 412
        assert httpx.post(f"{served.url}/cds-services/{name}", json=content).status_code == 401
        assert httpx.get(served.url).status_code == 200
        one, other = (client.post("/score", json=held) for held in (bundle(7), rows(7)))
        assert answered(one) == answered(other)
    entries = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [(entry["protocol"], entry["status"], entry["caller"]) for entry in entries] == [
        ("cds", 200, "record"),
        ("cds-feedback", 200, "record"),
        ("cds", 412, "record"),
        ("records", 200, "record"),
        ("records", 200, "record"),
    ]
    assert PLANTED not in (tmp_path / "audit.jsonl").read_text() + served.log.read_text()


def test_a_wrong_thresholds_file_stops_the_server_in_one_line(chain, tmp_path):
    (tmp_path / "thresholds.yaml").write_text("stroke: {365: 0.1}\n")
    found = command("serve", chain.release, "--port", "0", "--thresholds", tmp_path / "thresholds.yaml")
    assert found.returncode == 2
    (line,) = found.stderr.splitlines()
    assert line.endswith("unknown outcome stroke; the release has failure, kidney, never")


def test_the_bodies_and_thresholds_in_the_docs_are_taken(made, tmp_path):
    text = (docs.ROOT / "docs" / "how-to" / "serve.md").read_text(encoding="utf-8")
    bodies = re.findall(r"```json\n(.*?)```", text, flags=re.DOTALL)
    assert len(bodies) == 2
    for body in bodies:
        response = ask(made.app, "POST", "/score", content=body)
        assert response.status_code == 200
        fields = set(re.findall(r"`(\w+)`", text.split("| Field |")[1].split("\n\n")[0]))
        assert set(response.json()) <= fields
    (held,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "thresholds.yaml").write_text(held)
    outcomes = (Outcome(name="heart_failure", any_of=("A",)), Outcome(name="readmission", any_of=("A",), **MONTH))
    assert len(load(tmp_path / "thresholds.yaml", Registry(outcomes))) == 2


def resolved(schema, description):
    return {**schema, "components": description["components"]}


def test_answers_are_those_of_the_description(made):
    described = ask(made.app, "GET", "/openapi.json").json()
    talk = {
        ("get", "/cds-services"): ask(made.app, "GET", "/cds-services"),
        ("post", "/score"): ask(made.app, "POST", "/score", json=bundle(7)),
        ("post", "/cds-services/{id}"): ask(made.app, "POST", "/cds-services/patient-view", json=hooks.call(bundle(7))),
    }
    for (method, path), response in talk.items():
        held = described["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(response.json(), resolved(held, described))
    for name, content in (("Bundle", bundle(7)), ("Rows", rows(7)), ("HookCall", hooks.call(bundle(7)))):
        jsonschema.validate(content, resolved(described["components"]["schemas"][name], described))


def test_the_description_names_every_path_and_no_other(made):
    described = ask(made.app, "GET", "/openapi.json").json()["paths"]
    plain = {re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path) for route in made.app.routes}
    ours = {path for path in plain if not path.startswith("/v2")} - {"/metrics", "/openapi.json"}
    assert ours == {path for path in described if not path.startswith("/v2")} - {"/metrics", "/openapi.json"}


def test_the_page_asks_nothing_of_the_outside(made):
    response = ask(made.app, "GET", "/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    text = response.text
    assert not re.findall(r"https?://|//[a-z]+\.|@import|url\(", text)
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    # What the policy lets through is what stands there.
    for element, kind in (("style", "style-src"), ("script", "script-src")):
        inline = re.findall(rf"<{element}>(.*?)</{element}>", text, flags=re.DOTALL)
        assert len(inline) == 1
        assert f"{kind} {page.digest(inline[0])}" in policy


def test_the_page_shows_card_outcomes_and_thresholds_and_escapes_what_people_state(made, tmp_path):
    folder = tmp_path / "release"
    shutil.copytree(made.service.release.path, folder)
    told = json.loads((folder / "card.json").read_text())
    told["stated"]["name"], told["stated"]["intended_use"] = "Ward 7", "<script>alert(1)</script>"
    (folder / "card.json").write_text(json.dumps(told))
    text = page.render(made.service.release._replace(path=folder), made.service.alerts)
    assert "<title>Ward 7</title>" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "0.1% (warning)" in text
    for word in ("failure", "kidney", "Not learnt", made.service.release.model):
        assert word in text


def share(held):
    """Return a probability as the page shows it."""
    return "not learnt" if held["outcome"] == "never" else f"{100 * held['probability']:.1f} %"


@pytest.mark.slow
def test_the_page_scores_a_bundle_in_a_browser(chain, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs chromium, which is not installed here")
    (tmp_path / "thresholds.yaml").write_text("failure: {1095: 0.000001}\n")
    settings = ("--thresholds", tmp_path / "thresholds.yaml")
    with serving(chain.release, tmp_path, *settings) as served, Browser(chromium, tmp_path / "profile") as browser:
        browser.open(served.url)
        browser.wait("document.getElementById('health').textContent === 'ready'")
        browser.run(f"document.getElementById('bundle').value = {json.dumps(json.dumps(bundle(7)))}")
        browser.run("document.getElementById('form').requestSubmit()")
        browser.wait("!document.getElementById('result').hidden")
        cells = "[...document.querySelectorAll('#answers tr')].map(row => [...row.cells].map(cell => cell.innerText))"
        expected = httpx.post(f"{served.url}/score", json=bundle(7), timeout=60).json()["predictions"]
        assert [row[:3] for row in browser.run(cells)] == [
            [held["outcome"], str(held["horizon_days"]), share(held)] for held in expected
        ]
        assert browser.run("document.querySelectorAll('#answers tr.over').length") == 1
        browser.picture(tmp_path / "page.png")
        assert (tmp_path / "page.png").stat().st_size > 20_000
        browser.run("document.getElementById('bundle').value = '{}'")
        browser.run("document.getElementById('form').requestSubmit()")
        browser.wait("document.getElementById('said').className === 'said bad'")
        assert browser.run("document.getElementById('said').textContent").startswith("neither resourceType nor events")
        assert browser.run("document.getElementById('result').hidden") is True
        assert browser.outside == []
        assert browser.errors == []
