"""/health, /ready, /metrics, and the OpenAPI document."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from serve_helpers import chat
from starlette.testclient import TestClient

from graphkv import GraphKV
from graphkv.errors import LayoutError
from graphkv.scheduler import Scheduler
from graphkv.serve import metrics as metrics_module
from graphkv.serve.app import create_app
from graphkv.serve.settings import Settings


@pytest.fixture
def client(embedded: GraphKV) -> Any:
    with TestClient(create_app(embedded, Settings(model_name="mine")), base_url="http://127.0.0.1") as client:
        yield client


def numbers(client: TestClient) -> dict[str, float]:
    """What /metrics shows, by name and labels."""
    answer = client.get("/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {name: float(value) for line in answer.text.splitlines() if not line.startswith("#") for name, _, value in [line.rpartition(" ")]}


def test_alive_and_ready(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {"status": "ready"}


def test_a_server_that_stops_is_alive_and_not_ready(client: TestClient) -> None:
    client.app.state.graphkv.closing = True  # type: ignore[attr-defined]
    assert client.get("/health").status_code == 200
    for method, path in (("GET", "/ready"), ("POST", "/v1/chat/completions")):
        answer = client.request(method, path)
        assert answer.status_code == 503 and answer.headers["retry-after"] and answer.json()["error"]["code"] == "stopping"


def test_a_server_without_its_scheduler_is_not_ready(embedded: GraphKV) -> None:
    """And says that it stops, not that it is busy."""
    scheduler = Scheduler(embedded)
    with TestClient(create_app(scheduler, Settings()), base_url="http://127.0.0.1") as client:
        assert client.get("/ready").status_code == 200
        scheduler.close()
        for answer in (client.get("/ready"), client.post("/v1/chat/completions", json=chat())):
            assert answer.status_code == 503 and answer.headers["retry-after"] and answer.json()["error"]["code"] == "stopping"


def test_metrics_tell_exact_from_composed_reuse(client: TestClient) -> None:
    """1. nothing is reused, 2. the same context again, 3. one block of it in another context."""

    def ask(body: dict[str, Any]) -> dict[str, int]:
        before = numbers(client)
        answer = client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200
        usage, after = answer.json()["usage"], numbers(client)
        found = {}
        for name in ("prompt_tokens", "generation_tokens", "tokens_computed", "tokens_reused_exact", "tokens_reused_composed"):
            found[name] = int(after[f"graphkv:{name}_total"] - before[f"graphkv:{name}_total"])
        assert found["prompt_tokens"] == usage["prompt_tokens"] and found["generation_tokens"] == usage["completion_tokens"]
        assert usage["prompt_tokens_details"]["cached_tokens"] == found["tokens_reused_exact"] + found["tokens_reused_composed"]
        assert found["prompt_tokens"] == sum(found[f"tokens_{name}"] for name in ("computed", "reused_exact", "reused_composed"))
        return found

    client.app.state.graphkv.scheduler.engine.store.clear()  # type: ignore[attr-defined]
    first, again = ask(chat("A question of this test?", max_tokens=2)), ask(chat("Another question of it?", max_tokens=2))
    assert first["tokens_reused_exact"] == first["tokens_reused_composed"] == 0 == again["tokens_reused_composed"] < again["tokens_reused_exact"]
    part = ask(chat("A third question?", max_tokens=2) | {"documents": chat()["documents"][:1]})
    assert part["tokens_reused_exact"] == 0 < part["tokens_reused_composed"]
    shown = numbers(client)
    assert shown["graphkv:contexts"] >= 2 and shown["graphkv:context_cache_bytes"] > 0
    assert shown["graphkv:num_requests_waiting"] == shown["graphkv:num_requests_running"] == 0
    assert shown["graphkv:time_to_first_token_seconds_count"] == shown["graphkv:e2e_request_latency_seconds_count"] == 3
    assert shown['graphkv:http_requests_total{method="POST",route="/v1/chat/completions",status="200"}'] == 3
    assert shown["graphkv:http_requests_in_work"] == 1  # this one


def test_metrics_count_what_is_refused(client: TestClient) -> None:
    client.post("/v1/chat/completions", json={"messages": "none"})
    client.post("/v1/chat/completions", content=b"[" * 100, headers={"Content-Type": "application/json"})
    client.get("/nowhere/at/all")
    client.request("FETCH", "/health")
    shown = numbers(client)
    for kind in ("invalid_request_error", "too_deep", "not_found"):
        assert shown[f'graphkv:request_refused_total{{kind="{kind}"}}'] == 1
    assert not any("nowhere" in name or "FETCH" in name for name in shown)  # a path or a method that a client made up is no label


def test_the_size_of_the_store_is_not_looked_up_every_time(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    store = type(client.app.state.graphkv.scheduler.engine.store)  # type: ignore[attr-defined]
    monkeypatch.setattr(store, "nbytes", property(lambda self: looked.append(1) or 5 * len(looked)))
    assert [numbers(client)["graphkv:store_bytes"] for _ in range(3)] == [5, 5, 5]
    monkeypatch.setattr(metrics_module, "_STORE_SECONDS", 0.0)
    assert numbers(client)["graphkv:store_bytes"] == 10


def test_two_servers_count_apart(scheduler: Scheduler) -> None:
    for _ in range(2):
        with TestClient(create_app(scheduler, Settings()), base_url="http://127.0.0.1") as client:
            assert numbers(client)["graphkv:http_requests_in_work"] == 1


def test_the_openapi_document(live_server: str) -> None:
    document = httpx.get(live_server + "/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    references = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert references <= set(document["components"]["schemas"])
    ids = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids))
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert {"200", "400", "403", "408", "413", "500"} | ({"415"} if path.startswith("/v1") else set()) <= set(operation["responses"]), (method, path)
    for path in ("/docs", "/redoc"):
        assert httpx.get(live_server + path).status_code == 404


def test_a_scheduler_that_is_given_stays_open_and_one_that_is_made_ends(embedded: GraphKV) -> None:
    with Scheduler(embedded) as given:
        for engine in (given, embedded):
            app = create_app(engine)
            with TestClient(app, base_url="http://127.0.0.1") as client:
                assert client.post("/v1/chat/completions", json=chat(max_tokens=1)).status_code == 200
            thread = app.state.graphkv.scheduler._thread
            assert thread.is_alive() == (engine is given)


def test_a_layout_that_is_none(scheduler: Scheduler) -> None:
    with pytest.raises(LayoutError, match="grpah"):
        create_app(scheduler, Settings(layout="grpah"))
